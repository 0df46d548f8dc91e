-- POST /api in nginx: the gateway's work on the gateway's store function, one call a request.
--
-- Loaded with the path of a JSON file (peers.site); gives the function that answers a request. It leaves out, to its own
-- advantage, what `POST /api` asks (`edgeproxy/dynamic/README.md`) beyond one request's answer: keys that stand twice,
-- metrics, the memory for when the store is away, and reading an account again once it has changed.

local cjson = require "cjson.safe"
local redis = require "nginx.redis"
local bit = require "bit"
local ffi = require "ffi"

local ngx, type, pairs, tonumber = ngx, type, pairs, tonumber
local byte, sub, find, gsub, lower, match = string.byte, string.sub, string.find, string.gsub, string.lower, string.match
local concat, ceil = table.concat, math.ceil
local decode, encode = cjson.decode, cjson.encode
local hmac_sha1, re_find = ngx.hmac_sha1, ngx.re.find
local bor, bxor = bit.bor, bit.bxor
local C, ffi_string = ffi.C, ffi.string

ffi.cdef [[ unsigned char *ngx_hex_dump(unsigned char *dst, const unsigned char *src, size_t len); ]]

local file = assert(io.open(..., "rb"))
local site = assert(decode(file:read("*a")))
file:close()

local SOCKET = "unix:" .. site.store_socket
local POOL = 512
local IDLE_MS = 60000
local KEYS = #site.keys
local K = site.keys
local POLICY = '"ip";q=' .. site.per_second .. ';w=1, "points";q=' .. string.format("%.0f", site.points_daily) .. ";w=86400"

local POOL_OF = {}
for _, number in ipairs(site.replaces) do POOL_OF[number] = 1 end

-- Small pieces --------------------------------------------------------------------------------------------------------

local hex_buffer = ffi.new("unsigned char[64]")

local function hex(raw)
  C.ngx_hex_dump(hex_buffer, raw, #raw)
  return ffi_string(hex_buffer, 2 * #raw)
end

local function same(a, b)
  if #a ~= #b then return false end
  local differs = 0
  for i = 1, #a do differs = bor(differs, bxor(byte(a, i), byte(b, i))) end
  return differs == 0
end

local VARIANT = {}
for i = 0, 15 do VARIANT[byte(string.format("%x", i))] = string.format("%x", 8 + i % 4) end

local urandom, entropy, entropy_at = nil, "", 1

local function uuid4()
  if entropy_at + 15 > #entropy then
    urandom = urandom or assert(io.open("/dev/urandom", "rb"))
    entropy, entropy_at = urandom:read(4096), 1
  end
  local h = hex(sub(entropy, entropy_at, entropy_at + 15))
  entropy_at = entropy_at + 16
  return sub(h, 1, 8) .. "-" .. sub(h, 9, 12) .. "-4" .. sub(h, 14, 16) .. "-" .. VARIANT[byte(h, 17)] .. sub(h, 18, 20)
    .. "-" .. sub(h, 21)
end

-- Remembers what `make` gives for a text, up to `most` of them.
local function remembered(most, make)
  local known, count = {}, 0
  return function(text)
    local value = known[text]
    if value == nil then
      if count >= most then known, count = {}, 0 end
      value = make(text)
      known[text], count = value, count + 1
    end
    return value
  end
end

local CRAWLERS = concat(site.crawlers, "|")
local is_crawler = remembered(16384, function(agent) return re_find(agent, CRAWLERS, "jo") ~= nil end)

-- A number as written on a page in E.164, false where it is none. National numbers are of the account's country.
local read_number = remembered(65536, function(text)
  local cleaned = gsub(gsub(gsub(ngx.unescape_uri(text), "<[^<>]*>", ""), "^[Tt][Ee][Ll]:", ""), "%(0%)", "")
  local digits = gsub(cleaned, "%D", "")
  if #digits < 5 or #digits > 20 then return false end
  if find(cleaned, "^%s*%+") then return "+" .. digits end
  return "+" .. site.country .. (gsub(digits, "^0", ""))
end)

local grouped = {}

-- The answer's part for a number on the page and its tracking number: written in the groups of the number on the page.
local function fragment(on_page, number)
  local of = grouped[on_page]
  if not of then
    of = remembered(65536, function(tracking)
      local digits, at = "0" .. sub(tracking, 2 + #site.country), 0
      local display = gsub(on_page, "%d", function()
        at = at + 1
        return sub(digits, at, at)
      end)
      if at ~= #digits then display = digits end
      return '{"number_on_page":' .. encode(on_page) .. ',"replace_with":{"e164":"' .. tracking .. '","local":"' .. display
        .. '"}}'
    end)
    grouped[on_page] = of
  end
  return of(number)
end

local truncated = remembered(65536, function(ip)
  local net = match(ip, "^(%d+%.%d+%.%d+)%.%d+$")
  return net and net .. ".0" or ""
end)

local function is_session_id(text) return #text == 36 and not find(text, "[^%w-]") end

-- Answers -------------------------------------------------------------------------------------------------------------

local function refuse(status, text, retry_after)
  if ngx.var.http_x_http_statuses then ngx.status = status end
  if retry_after then ngx.header["Retry-After"] = retry_after end
  local answer = encode({success = false, error = text})
  ngx.header["Content-Length"] = #answer
  return ngx.print(answer)
end

local function limits(left, reply)
  ngx.header["RateLimit-Policy"] = POLICY
  ngx.header["RateLimit"] = '"ip";r=' .. left .. ';t=1, "points";r='
    .. string.format("%.0f", math.max(0, site.points_daily - reply.spent)) .. ";t=" .. ceil((reply.day_end - reply.now) / 1000)
end

local TEXTS = {  -- name, most characters, must be there, must not be empty
  {"fullUrl", 2048, true, true}, {"trackingId", 128, true, false}, {"fullReferrer", 2048, true, false},
  {"userAgent", 1024, true, true}, {"requestIpAddress", 45, true, true}, {"sessionId", 64, false, false},
}
local MOST = {custnr = 45, custname = 60, custemail = 150}

local function characters(text)
  local _, count = gsub(text, "[^\128-\191]", "")
  return count
end

-- Checks the fields; gives the fault's text, or nil.
local function fault_of(tree)
  if type(tree.numbers) ~= "string" or tree.numbers == "" then return "Missing parameter: numbers" end
  local kind = tree.type
  if kind ~= "web" and kind ~= "app" then
    return kind and "Invalid parameter: type: must be web or app" or "Missing parameter: type"
  end
  for i = 1, #TEXTS do
    local rule = TEXTS[i]
    local name, value = rule[1], tree[rule[1]]
    if type(value) == "string" then
      if #value > rule[2] and characters(value) > rule[2] then
        return "Invalid parameter: " .. name .. ": more than " .. rule[2] .. " characters"
      end
      if value == "" and rule[4] and kind == "web" then return "Missing parameter: " .. name end
    elseif value ~= nil and value ~= cjson.null then
      return "Invalid parameter: " .. name .. ": must be a string"
    elseif rule[3] then
      return "Missing parameter: " .. name
    end
  end
  local parameters = tree.parameters
  if type(parameters) ~= "table" then return "Missing parameter: parameters" end
  local count = 0
  for key, value in pairs(parameters) do
    count = count + 1
    if type(key) ~= "string" or #key > 64 and characters(key) > 64 then return "Invalid parameter: parameters" end
    if type(value) == "number" or type(value) == "boolean" then
      value = encode(value)
      parameters[key] = value
    elseif type(value) ~= "string" then
      return "Invalid parameter: parameters." .. key .. ": must be a string"
    end
    local most = MOST[key] or 2048
    if #value > most and characters(value) > most then
      return "Invalid parameter: parameters." .. key .. ": more than " .. most .. " characters"
    end
  end
  if count > 50 then return "Invalid parameter: parameters: more than 50 keys" end
end

return function()
  ngx.req.read_body()
  local body = ngx.req.get_body_data()
  local tree = body and decode(body)
  if type(tree) ~= "table" then return refuse(400, "Malformed JSON") end
  if type(tree.advId) ~= "string" then return refuse(400, "Missing parameter: advId") end

  local sent = ngx.var.http_x_sign
  if not sent then return refuse(403, "Missing signature") end
  if tree.advId ~= site.account or not same(lower(sent), hex(hmac_sha1(site.secret, body))) then
    return refuse(403, "Invalid signature")
  end
  local fault = fault_of(tree)
  if fault then return refuse(400, fault) end

  local session = is_session_id(tree.sessionId or "") and tree.sessionId or ""
  local visitor = tree.trackingId
  local bare = tree.type == "web" and is_crawler(tree.userAgent)

  -- Which numbers on the page are replaced, and the request's row of ep1_resolve.
  local shown, pages = {}, {}
  for number in string.gmatch(tree.numbers, "[^,]+") do
    number = match(number, "^%s*(.-)%s*$")
    local e164 = read_number(number)
    local pool = e164 and POOL_OF[e164]
    if pool then
      shown[#shown + 1] = number
      pages[#pages + 1] = e164
      pages[#pages + 1] = pool
    end
  end
  local browser, parameters = encode(tree.userAgent), next(tree.parameters) and encode(tree.parameters) or "{}"
  local context = concat({'"requestIpAddress":', encode(truncated(tree.requestIpAddress)), ',"parameters":', parameters})
  local page = concat({
    '{"type":', encode(tree.type), ',"trackingId":', encode(visitor),
    ',"fullUrl":', encode(tree.fullUrl), ',"fullReferrer":', encode(tree.fullReferrer), "}",
  })

  local store = redis:new()
  store:set_timeout(site.budget_ms)
  if not store:connect(SOCKET) then return refuse(500, "Store unavailable") end
  local admitted  -- the places left in the window of a request that joins a session
  local reply, result, code
  repeat
    local count, how = KEYS, (bare and 4 or 0) + (admitted and 8 or 0)
    local names = {unpack(K)}
    if session ~= "" then
      count, how = count + 1, how + 1
      names[count] = site.session_prefix .. session
    end
    count = count + 1
    names[count] = site.session_prefix .. uuid4()
    if visitor ~= "" then
      count, how = count + 1, how + 2
      names[count] = site.visitor_prefix .. visitor
    end
    names[count + 1] = 0
    names[count + 2] = site.head
    names[count + 3] = 0
    names[count + 4] = ngx.var.remote_addr
    names[count + 5] = how
    names[count + 6] = browser
    names[count + 7] = context
    names[count + 8] = page
    names[count + 9] = #pages / 2
    for i = 1, #pages do names[count + 9 + i] = pages[i] end
    local raw, failure = store:fcall(site["function"], count, unpack(names, 1, count + 9 + #pages))
    if not raw then
      ngx.log(ngx.ERR, failure)
      store:close()
      return refuse(500, "Store unavailable")
    end
    reply = decode(raw)
    result = reply.results and reply.results[1]
    code = result and result[1]
    if code == 4 then admitted, session = result[2], result[3] end
  until code ~= 4
  store:set_keepalive(IDLE_MS, POOL)

  if not result then return refuse(500, "Store unavailable") end
  if code == 1 then
    limits(0, reply)
    return refuse(403, "Blocked IP: more than " .. site.per_second .. " requests per second", ceil(result[2] / 1000))
  elseif code == 2 then
    limits(0, reply)
    return refuse(403, "Daily point budget exhausted", ceil((reply.day_end - reply.now) / 1000))
  elseif code == 3 then
    return refuse(501, "No number pool is configured")
  end
  local parts = {}
  for i = 1, #shown do
    local number = result[3 + i]
    if number then parts[#parts + 1] = fragment(shown[i], number) end
  end
  local answer = '{"success":true,"numbers":[' .. concat(parts, ",") .. '],"sessionId":"' .. result[3] .. '"}'
  limits(admitted or result[2], reply)
  ngx.header["Content-Length"] = #answer
  return ngx.print(answer)
end
