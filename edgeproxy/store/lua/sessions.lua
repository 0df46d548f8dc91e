--
-- Records of sessions and visitors: what is known of a visit, and of a visitor's last numbers.
--
-- A session's record is a flat array: its end; its last page (the visit's JSON, less its browser); BEGUN, FIRST, BETWEEN, LAST; then PAGE, POOL,
-- NUMBER, SINCE for each of its leases; one whose number it was then leased in another page's place has an empty POOL. It is kept
-- for as long as the leases' history.
--   BEGUN    when the first page was, epoch ms, as text; '' if that is not known
--   FIRST    the first page, less its browser and address; '' while it is the last one too; false: not known. It is written
--            once
--   BETWEEN  the custom dimensions of the pages between the two, JSON, or ''
--   LAST     when the last page was, epoch ms; 0 if that is not known
-- These four stand where the release before has a lease: it takes them for one of a page that no request shows, and keeps
-- them. Its own records, which lack them, are read as if they were not known.
--
-- In the place of a lease there may be NETWORKS: its mark; the networks that pages lately came from, or MANY; ''; since when.
--
-- A visitor's record has PAGE, POOL, NUMBER, SINCE for each lease, and after each whose it was. Where PAGE is a mark of who
-- somebody is (see who_of), the lease is the last that somebody like that was granted, and SEVERAL says that the visitor's id
-- stands for several people.

local BEGUN, FIRST, BETWEEN, LAST = 3, 4, 5, 6
local FIRST_LEASE = 7    -- of a session's record
local LEASE = 4          -- values of a lease: number on page, pool's name, tracking number, since
local MOST_LEASES = 256  -- that a record remembers

local MOST_DIMENSIONS, MOST_BYTES = 50, 16384  -- of BETWEEN

local NETWORKS, MANY = -1, 'many'
local MOST_NETWORKS, AT_ONCE = 4, 600000  -- of one visitor, within so many ms: at home, at work, on the way, IPv4 and IPv6

local WHO, SEVERAL = '\0', '\0several'
local MOST_WHO, WHO_WITHIN = 4, 3600000  -- of one visitor, within so many ms: browsers and networks
local SEVERAL_KEPT = 86400000  -- ms after which an id may be one person's again

-- The visit's JSON is the gateway's own, and so is the order of its members: `userAgent`, `requestIpAddress`, `parameters`, an
-- object of texts, `type`, and others. Quotes within texts are escaped, so these are told apart without reading it.
local ADDRESS, PARAMETERS, AFTER_PARAMETERS = ',"requestIpAddress":"', ',"parameters":{', '},"type":'
local NO_AGENT, NO_ADDRESS = '{"userAgent":""', ADDRESS .. '",'

-- The records of `names` that there are, by name.
local function load_records(names)
  local records = {}
  for first = 1, #names, UNPACK do
    local last = math.min(first + UNPACK - 1, #names)
    local found = redis.call('MGET', unpack(names, first, last))
    for i = first, last do
      local packed = found[i - first + 1]
      if packed then records[names[i]] = cmsgpack.unpack(packed) end
    end
  end
  return records
end

-- Where in a record the values for a number on page, or a mark, begin.
local function place_of(record, page, first, width)
  for at = first, #record, width do
    if record[at] == page then return at end
  end
end

local KEPT = {[NETWORKS] = true, [SEVERAL] = true}  -- marks that no number of leases pushes out: nobody would be warned any more

-- Forgets the oldest of a record's leases, which stand from `first` on, beyond what it may remember.
local function bound(record, first, width)
  local count = (#record - first + 1) / width
  if count <= MOST_LEASES then return record end
  local begun = {}
  for at = first, #record, width do begun[#begun + 1] = {at, KEPT[record[at]] and math.huge or record[at + 3]} end
  table.sort(begun, function(a, b)
    if a[2] ~= b[2] then return a[2] < b[2] end
    return a[1] < b[1]
  end)
  local kept = {unpack(record, 1, first - 1)}
  for i = count - MOST_LEASES + 1, count do
    for at = begun[i][1], begun[i][1] + width - 1 do kept[#kept + 1] = record[at] end
  end
  return kept
end

-- Sessions ----------------------------------------------------------------------------------------------------------

local function new_session(id, key)
  return {id = id, key = key, record = {0, '', '', '', '', 0}, granted = false}
end

local PLUS = ('+'):byte()

-- A record, in this release's form.
local function read_session(record)
  local begun = record[BEGUN]
  if begun and begun:byte() ~= PLUS then return record end
  local read = {record[1], record[2], '', false, '', 0}
  for at = 3, #record do read[#read + 1] = record[at] end
  return read
end

-- Puts the dimensions of a page that is about to be forgotten to those of the pages between the first and the last.
local function keep_dimensions(record, visit)
  local between, count = {}, 0
  if record[BETWEEN] ~= '' then between = cjson.decode(record[BETWEEN]) end
  for _ in pairs(between) do count = count + 1 end
  for name, value in pairs(cjson.decode(visit).parameters or {}) do
    if between[name] == nil then count = count + 1 end
    if between[name] ~= nil or count <= MOST_DIMENSIONS then between[name] = value end
  end
  local json = count > 0 and cjson.encode(between) or ''
  if #json <= MOST_BYTES then record[BETWEEN] = json end
end

local function network_of(page) return page:match('^{"requestIpAddress":"([^"]*)"') or '' end
local function network_mark(network) return ',' .. redis.sha1hex(network):sub(1, 4) end

-- A page came from another network than the last one.
local function see_network(record, before, network, now)
  local at = place_of(record, NETWORKS, FIRST_LEASE, LEASE)
  if not at then
    at = #record + 1
    record[at], record[at + 1], record[at + 2], record[at + 3] = NETWORKS, '', '', 0
  end
  local seen = record[at + 1]
  if seen == MANY then return end
  if now - record[at + 3] > AT_ONCE then
    seen, record[at + 3] = before ~= '' and network_mark(before) or '', now
  end
  local mark = network_mark(network)
  if not seen:find(mark, 1, true) then seen = seen .. mark end
  record[at + 1] = #seen > MOST_NETWORKS * #mark and MANY or seen
end

-- The visit's JSON from the `,` on that stands before a member.
local function cut(visit, member)
  local at = visit:find(member, 1, true)
  return at and '{' .. visit:sub(at + 1) or visit
end

-- A visitor's next page, at `now`, which as text is `moment`.
local function turn_page(record, visit, now, moment)
  local before, page = record[2], cut(visit, ADDRESS)
  record[2], record[LAST] = page, now
  if before == '' then
    record[BEGUN] = moment
    return
  end
  local first = record[FIRST]
  if first == '' then record[FIRST] = cut(before, PARAMETERS) end
  local ends = page:find(AFTER_PARAMETERS, 1, true)
  if not ends or before:find(page:sub(1, ends), 1, true) == 1 then return end  -- the network and dimensions are as before
  if first ~= '' then keep_dimensions(record, before) end
  local was, is = network_of(before), network_of(page)
  if is ~= '' and was ~= is then see_network(record, was, is, now) end
end

-- What a record tells of the visit, JSON: {"last": the last page, "last_at", "first": the first page or null, "first_at",
-- "between": dimensions, "many_networks"}; moments are epoch ms, or null.
local function told(packed)
  if not packed then return 'null' end
  local record = read_session(cmsgpack.unpack(packed))
  if record[2] == '' then return 'null' end
  local first, at = record[FIRST], place_of(record, NETWORKS, FIRST_LEASE, LEASE)
  if first == '' then first = record[2] end
  return table.concat({
    '{"last":', record[2], ',"last_at":', record[LAST] > 0 and moment_text(record[LAST]) or 'null',
    ',"first":', first or 'null', ',"first_at":', record[BEGUN] ~= '' and record[BEGUN] or 'null',
    ',"between":', record[BETWEEN] ~= '' and record[BETWEEN] or '{}',
    ',"many_networks":', tostring(at ~= nil and record[at + 1] == MANY), '}',
  })
end

-- Visitors ----------------------------------------------------------------------------------------------------------

-- A mark of who somebody is, as far as a page tells: the browser and the network. Nil where it does not tell both.
local function who_of(visit)
  local ends = visit:find(PARAMETERS, 1, true)
  local somebody = ends and visit:sub(1, ends)
  if not somebody or somebody:sub(1, #NO_AGENT) == NO_AGENT or somebody:find(NO_ADDRESS, 1, true) then return nil end
  return WHO .. redis.sha1hex(somebody):sub(1, 16)
end

-- Whether an id of a visitor was lately found to be several people's.
local function is_several(had, now)
  local at = place_of(had, SEVERAL, 1, LEASE + 1)
  return at ~= nil and had[at + 3] > now - SEVERAL_KEPT
end

-- A record less its marks.
local function unmarked(had)
  local kept = {}
  for at = 1, #had, LEASE + 1 do
    if tostring(had[at]):byte() == PLUS then
      for i = at, at + LEASE do kept[#kept + 1] = had[i] end
    end
  end
  return kept
end

-- Remembers the session's lease that was granted last as that of somebody. An id that too many have at once is several
-- people's.
local function remember_who(had, who, session, now)
  local record, from, count, oldest = session.record, session.granted, 0, nil
  local to = place_of(had, who, 1, LEASE + 1)
  if not to then
    for at = 1, #had, LEASE + 1 do
      if had[at] == SEVERAL then
        if had[at + 3] > now - SEVERAL_KEPT then return had end
        had = unmarked(had)
        break
      elseif tostring(had[at]):sub(1, 1) == WHO then
        count = count + 1
        if not oldest or had[at + 3] < had[oldest + 3] then oldest = at end
      end
    end
    to = count < MOST_WHO and #had + 1 or oldest
    if to == oldest and had[to + 3] > now - WHO_WITHIN then
      had, who = unmarked(had), SEVERAL
      to = #had + 1
    end
  end
  if who == SEVERAL then  -- it names no session, so erasing one does not take it away
    had[to], had[to + 1], had[to + 2], had[to + 3], had[to + LEASE] = SEVERAL, '', '', now, ''
    return had
  end
  had[to] = who
  for i = 1, LEASE - 1 do had[to + i] = record[from + i] end
  had[to + LEASE] = session.id
  return had
end

-- Puts the leases of a visitor's session into what the visitor had.
local function remember(had, session, who, now)
  local place, record = {}, session.record
  for at = 1, #had, LEASE + 1 do place[had[at]] = at end
  for from = FIRST_LEASE, #record, LEASE do
    if record[from] ~= NETWORKS then
      local to = place[record[from]] or #had + 1
      for i = 0, LEASE - 1 do had[to + i] = record[from + i] end
      had[to + LEASE] = session.id
    end
  end
  if who then had = remember_who(had, who, session, now) end
  return bound(had, 1, LEASE + 1)
end

-- The session of somebody that a visitor's record names, and its leases: their places in the record.
local function session_of(had, who)
  local at = place_of(had, who, 1, LEASE + 1)
  if not at then return nil end
  local id, leases = had[at + LEASE], {}
  for lease = 1, #had, LEASE + 1 do
    if had[lease + LEASE] == id then leases[#leases + 1] = lease end
  end
  return id, leases
end
