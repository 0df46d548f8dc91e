--
-- ep1_resolve: decides a batch of requests of one account in one call (`dynamic/README.md`).
--
--   limiter → points → session → lease → visit record
--
-- Everything is read and decided first and written last, so a call that fails has changed nothing, and what a batch
-- shares (the points counter, the pool's order, the reply) is touched once. Requests are decided in the order they came.
--
-- KEYS  those of layout.py's KEYS, three of the limiter if it is asked here, three a pool (free, leased, granted), then for each
--       request its session if it brings one, its fresh session, and its visitor if it names one
-- ARGV  [1] now_ms: epoch ms; 0 is the store's own time
--       [2] account, JSON: version, cost, budget, per_second (false: ep1_admit was asked, on a cluster), days (midnights,
--           ascending), session_idle, visitor_ttl, visits_kept, leases_kept, join (whether a visitor's requests join the
--           session that holds leases), session_prefix (of its keys), pools: each as layout.py's POOL; times in ms
--       [3] deadline_ms: epoch ms; a call that the store comes to later does nothing; 0 is no deadline
--       [4…] for each request what layout.py's ASK names, and for each of its numbers on page the number and its pool's index
--           (from 1; 0: no pool replaces it, but a source may)
--
-- Reply, JSON:
--   {"stale": true}                      the account's version is another one: read it again
--   {"late": true, "now": ms}            the deadline has passed
--   {"now", "day_end", "spent", "back" (ms that the clock went back since the account's last request), "events", "results"}
--   results: of each request one of the codes of layout.py's CODES, and what that lays out after it. A number shown that was
--   leased from another pool than the one asked for stands as "number/index of its pool"; false: the number on page stays.
--   events: of leases granted, renewed, recycled, and numbers on page left as they are (original), shown a shared number
--   or a source's, and of requests that joined a session, those that happened and how often
--
-- ep1_explain_resolve: what ep1_resolve would decide. KEYS and ARGV are the same, and nothing is written. Reply, JSON: {"stale"},
--   or {"results", "told"}: `told` has for each number on page of the requests that go on what would happen, as `events`
--
-- What costs time here is mostly what is made (tables, strings, numbers as text) and each command called: so tables that
-- few calls need are made by those, and what an account's JSON says is read once.

local FIRST = 4          -- the first request's place in ARGV
local SWEEP = 64         -- ended leases that a batch puts back beyond those it needs
local SOURCES = 16       -- of one destination that are looked through at once for one that serves,
local PIECES = 64        -- so many times: those that have ended stay until their account is next asked about sources
local MOST_ACCOUNTS = 1024  -- of which JSON is kept as it was read

-- Places in a window, and ms until there is one, as text: it takes longer to write a number.
local texts = {}
local function text_of(number)
  local text = texts[number]
  if not text then
    text = number .. ''
    texts[number] = text
  end
  return text
end

local GOES_ON = '],[' .. OK .. ','

-- How a request comes, by layout.py's HOW, as text. Of one without a trace nothing is written.
local HOW = {}
for session = 0, 1 do
  for visitor = 0, 1 do
    for bare = 0, 1 do
      for joining = 0, 1 do
        local sum = session * WITH_SESSION + visitor * WITH_VISITOR + bare * WITHOUT_TRACE + joining * JOINING
        HOW[sum .. ''] = {session = session == 1, visitor = visitor == 1, bare = bare == 1, joining = joining == 1}
      end
    end
  end
end

-- Accounts ----------------------------------------------------------------------------------------------------------

local accounts, account_count = {}, 0

-- What an account's JSON says; it is the same text from call to call until the account changes. Nothing writes to it.
local function account_of(json)
  local account = accounts[json]
  if account then return account end
  account = cjson.decode(json)
  account.version = tostring(account.version)
  account.head = FIRST_LIMITER - 1 + (account.per_second and LIMITER_KEYS or 0)  -- keys before the pools'
  account.session_at = #account.session_prefix + 1  -- where in a session's key its id begins
  account.index = {}  -- pool's name → its index, as text
  for i, settings in ipairs(account.pools) do account.index[settings[POOL_NAME]] = tostring(i) end
  if account_count >= MOST_ACCOUNTS then accounts, account_count = {}, 0 end
  accounts[json], account_count = account, account_count + 1
  return account
end

-- Pools -------------------------------------------------------------------------------------------------------------
-- A tracking number is free → leased → cooling down → free. A lease that has ended is put back when somebody next needs
-- a number of the pool; until then its end stands in `leased`, and that decides.

local Pool = {}
Pool.__index = Pool

function Pool.of(index, settings, at, keys, history)
  return setmetatable({
    index = index, name = settings[POOL_NAME], idle = settings[POOL_IDLE], max = settings[POOL_MAX],
    cooldown = settings[POOL_COOLDOWN], overflow = settings[POOL_OVERFLOW], shared = settings[POOL_SHARED],
    history = history, free_key = keys[at + 1], leased_key = keys[at + 2], granted_key = keys[at + 3],
    want = 0,        -- numbers that this batch may need
    asked = {},      -- members whose end is to be read
    ends = {},       -- member → end of its lease, as far as known
    lease = {},      -- member → end to be written
    overflow_counts = false,  -- how often there was none free: ORIGINAL, SHARED, RECYCLED; once there was not
    queue = false,   -- numbers that can be leased, longest released first; once somebody needs one
  }, Pool)
end

local function member_of(number, session) return number .. ':' .. session end

-- A member's number and session.
local function parts_of(member)
  local colon = member:find(':', 1, true)
  return member:sub(1, colon - 1), member:sub(colon + 1)
end

local function members_of(set)
  local values = {}
  for value in pairs(set) do values[#values + 1] = value end
  return values
end

function Pool:read_ends()
  local members = self.asked
  for first = 1, #members, UNPACK do
    local last = math.min(first + UNPACK - 1, #members)
    local ends = redis.call('ZMSCORE', self.leased_key, unpack(members, first, last))
    for i = first, last do self.ends[members[i]] = tonumber(ends[i - first + 1] or nil) end
  end
end

local function scored(reply)
  local list = {}
  for i = 1, #reply, 2 do list[#list + 1] = {reply[i], tonumber(reply[i + 1])} end
  return list
end

local function earlier(a, b)
  if a[2] ~= b[2] then return a[2] < b[2] end
  return a[1] < b[1]
end

-- Reads the pool's order: numbers that can be leased, longest released first.
function Pool:open(now)
  if self.queue then return end
  self.begin = {}    -- member → begin to be written
  self.begun = {}    -- members granted by this batch, in order
  self.drop = {}     -- members to be removed
  self.release = {}  -- number → when it can be leased, to be written
  self.taken = {}    -- numbers leased by this batch
  local queue = scored(redis.call('ZRANGEBYSCORE', self.free_key, '-inf', now, 'WITHSCORES', 'LIMIT', 0, self.want))
  local ended = scored(
    redis.call('ZRANGEBYSCORE', self.leased_key, '-inf', now, 'WITHSCORES', 'LIMIT', 0, self.want + SWEEP))
  local ordered = #queue  -- as the store gives them; those put back are not
  for _, lease in ipairs(ended) do
    local number, session = parts_of(lease[1])
    local at = lease[2] + self.cooldown
    self.history:finish(number, session, lease[2])
    self.drop[lease[1]] = true
    self.release[number] = at
    if at <= now then queue[#queue + 1] = {number, at} end
  end
  if #queue > ordered then table.sort(queue, earlier) end
  self.queue, self.next, self.swept = queue, 1, #ended
end

-- The number a visitor had before, if it can be leased.
function Pool:regain(number, session, now)
  if self.taken[number] then return nil end
  local at = self.release[number]
  if not at then
    at = tonumber(redis.call('ZSCORE', self.free_key, number) or nil)
  end
  if not at then
    local member = member_of(number, session)
    local ended = not self.drop[member] and redis.call('ZSCORE', self.leased_key, member)
    if ended and tonumber(ended) + self.cooldown <= now then
      self.history:finish(number, session, tonumber(ended))
      self.drop[member] = true
      at = tonumber(ended) + self.cooldown
    end
  end
  return at and at <= now and number or nil
end

function Pool:longest_released()
  while self.next <= #self.queue do
    local number = self.queue[self.next][1]
    self.next = self.next + 1
    if not self.taken[number] then return number end
  end
end

-- Ends another session's oldest lease early; where there is none, the longest cooldown.
function Pool:recycle(session, now)
  if not self.oldest then
    self.oldest, self.all_read = {}, false
    local free = redis.call('ZRANGEBYSCORE', self.free_key, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, self.want)
    self.cooling = scored(free)
    for number, at in pairs(self.release) do
      if at > now then self.cooling[#self.cooling + 1] = {number, at} end
    end
    table.sort(self.cooling, earlier)
    self.next_oldest, self.next_cooling = 1, 1
  end
  local at = self.next_oldest
  while true do
    local member = self:granted_at(at)
    if not member then break end
    local number, holder = parts_of(member)
    local ends = not self.drop[member] and self:end_of(member)
    if not ends then
      if at == self.next_oldest then self.next_oldest = at + 1 end
    elseif holder ~= session then
      self:end_lease(member)
      self.history:finish(number, holder, math.min(ends, now))
      return number
    end
    at = at + 1
  end
  while self.next_cooling <= #self.cooling do
    local number = self.cooling[self.next_cooling][1]
    self.next_cooling = self.next_cooling + 1
    if not self.taken[number] then return number end
  end
end

function Pool:end_of(member)
  return self.ends[member] or tonumber(redis.call('ZSCORE', self.leased_key, member) or nil)
end

-- The `at`th of the leases, granted longest ago first: those that this batch found, then those that it has begun.
function Pool:granted_at(at)
  local oldest = self.oldest
  if at > #oldest and not self.all_read then
    local first, many = #oldest, self.want + self.swept
    local more = redis.call('ZRANGE', self.granted_key, first, first + many - 1)
    for i = 1, #more do oldest[first + i] = more[i] end
    self.all_read = #more < many
    return self:granted_at(at)
  end
  return oldest[at] or self.begun[at - #oldest]
end

function Pool:count_overflow(how)
  local counts = self.overflow_counts or {0, 0, 0}
  counts[how] = counts[how] + 1
  self.overflow_counts = counts
end

function Pool:end_lease(member)
  self.drop[member] = true
  self.lease[member], self.begin[member], self.ends[member] = nil, nil, nil
end

function Pool:grant(number, session, page, now, moment)
  self.history:begin(number, session, page, moment)
  local member = member_of(number, session)
  self.taken[number], self.release[number], self.drop[member] = true, nil, nil
  self.ends[member] = now + self.idle
  self.lease[member] = now + self.idle
  if self.overflow == 'recycle' then
    self.begin[member] = now
    self.begun[#self.begun + 1] = member
  end
end

local function pairs_of(scores)
  local values = {}
  for member, score in pairs(scores) do
    values[#values + 1] = score
    values[#values + 1] = member
  end
  return values
end

function Pool:write()
  if self.queue then
    local dropped = members_of(self.drop)
    in_chunks('ZREM', self.leased_key, dropped, 1)
    in_chunks('ZREM', self.granted_key, dropped, 1)  -- the pool may have recycled when the lease was granted
    in_chunks('ZREM', self.free_key, members_of(self.taken), 1)
    in_chunks('ZADD', self.free_key, pairs_of(self.release), 2)
    in_chunks('ZADD', self.granted_key, pairs_of(self.begin), 2)
  end
  in_chunks('ZADD', self.leased_key, pairs_of(self.lease), 2)
end

-- Requests ----------------------------------------------------------------------------------------------------------

-- The requests as ARGV and KEYS lay them out, and their client IPs.
local function requests_of(keys, args, account)
  local requests, ips, count = {}, {}, 0
  local at, key = FIRST, account.head + POOL_KEYS * #account.pools
  while args[at] do
    local how = HOW[args[at + ASK_HOW]]
    local request = {
      key = false, fresh_key = false, visitor = false, bare = how.bare, session = false,
      at = at, last = at + ASK_WIDTH - 1 + 2 * args[at + ASK_COUNT],  -- its values in ARGV
    }
    if how.joining then request.joining = true end  -- few are: eight fields take half the memory of nine
    if how.session then
      key = key + 1
      request.key = keys[key]
    end
    key = key + 1
    request.fresh_key = keys[key]
    if how.visitor then
      key = key + 1
      request.visitor = keys[key]
    end
    count = count + 1
    requests[count], ips[count] = request, args[at + ASK_IP]
    at = request.last + 1
  end
  return requests, ips
end

local NONE = {}  -- nothing writes to it

local Batch = {}
Batch.__index = Batch

function Batch:pool(index)
  local pool = self.pools[index]
  if not pool then
    local account, i = self.account, tonumber(index)
    pool = Pool.of(i, account.pools[i], account.head + POOL_KEYS * (i - 1), self.keys, self.history)
    self.pools[index] = pool
  end
  return pool
end

-- The pool of a lease, if the account still has it.
function Batch:holder(lease_pool)
  local index = self.account.index[lease_pool]
  return index and self:pool(index)
end

-- Leases the session a number of the pool for a number on page, at `at` of the session's record if it had one there.
function Batch:allocate(pool, session, page, at, visitor)
  local now, record = self.now, session.record
  pool:open(now)
  local number
  if at then
    if record[at + 1] == pool.name then number = pool:regain(record[at + 2], session.id, now) end
  elseif visitor then
    local had = place_of(visitor, page, 1, LEASE + 1)
    if had and visitor[had + 1] == pool.name then
      number = pool:regain(visitor[had + 2], visitor[had + LEASE], now)
    end
  end
  number = number or pool:longest_released()
  if not number and pool.overflow == 'recycle' then
    number = pool:recycle(session.id, now)
    if number then
      self.recycled = self.recycled + 1
      pool:count_overflow(RECYCLED)
    end
  end
  if not number then return false end
  pool:grant(number, session.id, page, now, self:moment())
  for other = FIRST_LEASE, #record, LEASE do  -- it may have had the number before, for another number on page
    if record[other + 2] == number then record[other + 1] = '' end
  end
  at = at or #record + 1
  record[at], record[at + 1], record[at + 2], record[at + 3] = page, pool.name, number, now
  session.granted = at
  self.granted = self.granted + 1
  return number
end

-- The tracking number of the first source that serves this destination.
function Batch:source_of(destination)
  local known = self.sources[destination]
  if known == nil then
    known = false
    local after, past = '[' .. destination .. '\0', '(' .. destination .. '\1'
    for _ = 1, PIECES do
      local found = redis.call('ZRANGEBYLEX', self.keys[KEY_DESTINATIONS], after, past, 'LIMIT', 0, SOURCES)
      for _, entry in ipairs(found) do
        local number, from, till = entry:match('^[^%z]*%z[^%z]*%z([^%z]*)%z([^%z]*)%z([^%z]*)$')
        if not known and tonumber(from) <= self.now and (till == '' or tonumber(till) > self.now) then
          known = number
        end
      end
      if known or #found < SOURCES then break end
      after = '(' .. found[#found]
    end
    if self.sources == NONE then self.sources = {} end
    self.sources[destination] = known
  end
  if known then self.source = self.source + 1 end
  return known
end

-- The number shown for a number on page; with the index of its pool if that is not the one asked for, or as shared.
function Batch:show(request, session, page, pool, visitor)
  local now, record = self.now, session.record
  local at = place_of(record, page, FIRST_LEASE, LEASE)
  local holder = at and self:holder(record[at + 1])
  if holder then
    local number, since = record[at + 2], math.min(record[at + 3], now)
    local member = member_of(number, session.id)
    local ends = holder.ends[member]
    if ends and ends > now and since + holder.max > now then
      if not request.bare then
        ends = math.min(now + holder.idle, since + holder.max)
        holder.lease[member], holder.ends[member], record[at + 3] = ends, ends, since
        self.renewed = self.renewed + 1
      end
      return number, holder ~= pool and holder.index
    end
  end
  if request.bare then return nil end
  local number = self:allocate(pool, session, page, at, visitor)
  if number then return number end
  if pool.overflow == 'shared' then
    self.shared = self.shared + 1
    pool:count_overflow(SHARED)
    return pool.shared, false, '","shared"]'
  end
  self.original = self.original + 1
  pool:count_overflow(ORIGINAL)
end

-- Which sessions requests without one may join: their visitor's, if somebody like this has it; and who asks. By request.
function Batch:find_joined(strangers)
  local joins, whos, args = {}, {}, self.args
  for _, i in ipairs(strangers) do
    local request = self.requests[i]
    local had = self.visitors[request.visitor]
    local who = who_of(args[request.at + ASK_BROWSER], args[request.at + ASK_CONTEXT])
    if who and not (had and is_several(had, self.now)) then
      whos[i] = who
      local id, leases
      if had and not request.joining then id, leases = session_of(had, who) end
      if id then
        local join = {id = id}
        for _, at in ipairs(leases) do
          local holder = self:holder(had[at + 1])
          if holder then
            local member = member_of(had[at + 2], id)
            holder.asked[#holder.asked + 1] = member
            join[#join + 1] = {holder, member, had[at + 3]}
          end
        end
        joins[i] = join
      end
    end
  end
  self.joins, self.whos = joins, whos
end

function Batch:holds_a_lease(join)
  for _, lease in ipairs(join) do
    local holder, ends = lease[1], lease[1].ends[lease[2]]
    if ends and ends > self.now and lease[3] + holder.max > self.now then return true end
  end
  return false
end

local EVENTS = {'granted', 'renewed', 'recycled', 'original', 'shared', 'source', 'joined'}

function Batch:events()
  local happened
  for i = 1, #EVENTS do
    local count = self[EVENTS[i]]
    if count > 0 then happened = (happened and happened .. ',"' or '"') .. EVENTS[i] .. '":' .. count end
  end
  return '{' .. (happened or '') .. '}'
end

-- What happened since this was last asked.
function Batch:lately()
  local events = self:events()
  for i = 1, #EVENTS do self[EVENTS[i]] = 0 end
  return events
end

-- Reads what all its requests have in common; false, and what to answer, where none is decided.
function Batch.of(keys, args)
  local now = clock(args[1])
  local account = account_of(args[2])
  local deadline = tonumber(args[3])
  if deadline > 0 and now > deadline then return false, '{"late":true,"now":' .. now .. '}' end
  if redis.call('HGET', keys[KEY_ACCOUNT], 'version') ~= account.version then return false, '{"stale":true}' end
  local points = Points.read(keys[KEY_POINTS], now, account)
  if not points then return false, redis.error_reply('CLOCK the store and the gateway are days apart') end
  local requests, ips = requests_of(keys, args, account)
  return setmetatable({
    now = now, account = account, keys = keys, args = args, points = points, requests = requests, ips = ips,
    codes = {}, lefts = {},  -- by request: the first two of each result
    limiter = account.per_second and Limiter.read(keys, FIRST_LIMITER, now, ips),
    history = History.of(keys[KEY_HISTORY], account.leases_kept),
    pools = {},      -- index, as text → pool, of those that requests have to do with
    looked_up = {},  -- visitors whose records are read
    visits = {}, v = 0,  -- the stream's entry, JSON in pieces; how many
    written = {},    -- sessions whose records change
    visited = {},    -- visitors whose records change: the request, the visitor, the session; one after another
  }, Batch)
end

-- What few batches have to do with: it is set where it is needed.
Batch.sources = NONE  -- destination → a source's tracking number, or false, of those that requests have to do with
Batch.joins, Batch.whos = NONE, NONE  -- see find_joined
Batch.begun = false   -- who → session that this batch began for somebody, where several requests are of one visitor
for i = 1, #EVENTS do Batch[EVENTS[i]] = 0 end

-- The moment as text.
function Batch:moment()
  local moment = self.now_text
  if not moment then
    moment = moment_text(self.now)
    self.now_text = moment
  end
  return moment
end

-- Limiter and points: who may go on.
function Batch:admit()
  local account, points, limiter, codes, lefts = self.account, self.points, self.limiter, self.codes, self.lefts
  local nothing = #account.pools == 0 and redis.call('EXISTS', self.keys[KEY_DESTINATIONS]) == 0
  for i, request in ipairs(self.requests) do
    local passed, left = true, 0
    if limiter and not request.joining then passed, left = limiter:take(i, self.ips[i], account.per_second) end
    lefts[i] = text_of(left)
    if not passed then
      codes[i] = BLOCKED
    elseif not points:cover() then
      codes[i] = SPENT
    elseif nothing then
      codes[i] = NO_POOL
    else
      points:spend()
      codes[i] = OK
    end
  end
end

-- Reads the sessions that live, with the ends of their leases, and what visitors had before who lack a lease.
function Batch:load()
  local account, args, codes, now, wanted = self.account, self.args, self.codes, self.now, {}
  for i, request in ipairs(self.requests) do
    if request.key and codes[i] == OK then wanted[#wanted + 1] = request.key end
  end
  local records = load_records(wanted)
  local latest = self.points.back and math.huge or now + 2 * account.session_idle + DAY  -- later ends are a wrong clock's
  local sessions, returning, looked_up, strangers = {}, {}, self.looked_up, nil
  for i, request in ipairs(self.requests) do
    if codes[i] == OK then
      local key = request.key
      local session = sessions[key]
      local record = not session and records[key]
      if record and record[END] > now and record[END] <= latest then
        session = {id = key:sub(account.session_at), key = key, record = read_session(record), granted = false}
        sessions[key] = session
      end
      request.session = session
      local leased = true
      for at = request.at + ASK_WIDTH, request.last, 2 do
        if args[at + 1] ~= '0' then
          local pool = self:pool(args[at + 1])
          pool.want = pool.want + 1
          local place = session and place_of(session.record, args[at], FIRST_LEASE, LEASE)
          local holder = place and self:holder(session.record[place + 1])
          if holder then holder.asked[#holder.asked + 1] = member_of(session.record[place + 2], session.id) end
          leased = leased and holder
        end
      end
      local visitor = request.visitor
      if visitor and not (session and leased) then
        if looked_up[visitor] then
          self.begun = self.begun or {}
        else
          returning[#returning + 1] = visitor
          looked_up[visitor] = true
        end
        if not session and not request.bare and account.join then
          strangers = strangers or {}
          strangers[#strangers + 1] = i
        end
      end
    end
  end
  self.visitors = load_records(returning)
  if strangers then self:find_joined(strangers) end
  for _, pool in pairs(self.pools) do pool:read_ends() end
end

-- Requests whose visitor's session lives are to be asked again, with it.
function Batch:join()
  for i, join in pairs(self.joins) do
    if self:holds_a_lease(join) then
      self.codes[i] = JOIN
      self.points:spare()
    end
  end
end

-- The session of a request that may go on, and whether it begins.
function Batch:session_of(i, request)
  local session = request.session
  if session then
    if request.joining then self.joined = self.joined + 1 end
    return session, false
  end
  local somebody = self.begun and self.whos[i] and request.visitor .. self.whos[i]
  local begun = somebody and self.begun[somebody]
  if begun and begun.granted then
    self.joined = self.joined + 1
    return begun, false
  end
  local key = request.fresh_key
  session = new_session(key:sub(self.account.session_at), key)
  if somebody then self.begun[somebody] = session end
  return session, true
end

-- Begins the request's visit in the stream's entry.
function Batch:begin_visit(session, fresh)
  local visits, v = self.visits, self.v
  visits[v + 1], visits[v + 2] = '},{"session":"', session.id
  visits[v + 3] = fresh and '","new":true,"first_at":' or '","new":false,"first_at":'
  visits[v + 4] = session.record[BEGUN] ~= '' and session.record[BEGUN] or 'null'
  visits[v + 5] = ',"numbers":{'
  self.v = v + 5
end

-- Ends it with what the page tells.
function Batch:end_visit(request)
  local visits, v, args, at = self.visits, self.v, self.args, request.at
  visits[v + 1], visits[v + 2], visits[v + 3] = '},"visit":{"userAgent":', args[at + ASK_BROWSER], ','
  visits[v + 4], visits[v + 5], visits[v + 6] = args[at + ASK_CONTEXT], ',', args[at + ASK_PAGE]:sub(2)
  self.v = v + 6
end

-- What is shown for each number on the request's page, after the others' `results`, which are JSON in pieces; gives how many
-- pieces there are. `told` is filled as ep1_explain_resolve tells.
function Batch:show_page(request, session, visitor, results, r, told)
  local args, visits, bare, first = self.args, self.visits, request.bare, true
  for at = request.at + ASK_WIDTH, request.last, 2 do
    local page, index = args[at], args[at + 1]
    local number, other, how
    if index == '0' then
      number, how = self:source_of(page), '","source"]'
    else
      number, other, how = self:show(request, session, page, self:pool(index), visitor)
    end
    if told then told[#told + 1] = self:lately() end
    if not number then
      r = r + 1
      results[r] = ',false'
    else
      results[r + 1], results[r + 2], results[r + 3] = ',"', number, other and '/' .. other .. '"' or '"'
      r = r + 3
      if not bare then
        local v = self.v
        visits[v + 1], visits[v + 2], visits[v + 3] = first and '"' or ',"', page, '":["'
        visits[v + 4], visits[v + 5] = number, how or '","lease"]'
        self.v, first = v + 5, false
      end
    end
  end
  return r
end

-- Decides every request; gives the results, JSON. `told` is filled as ep1_explain_resolve tells.
function Batch:decide(told)
  local codes, lefts, args = self.codes, self.lefts, self.args
  local visitors, written, visited, results, r = self.visitors, self.written, self.visited, {}, 0
  for i, request in ipairs(self.requests) do
    if codes[i] ~= OK then
      results[r + 1], results[r + 2], results[r + 3], results[r + 4] = '],[', codes[i], ',', lefts[i]
      r = r + 4
      if codes[i] == JOIN then
        results[r + 1], results[r + 2], results[r + 3] = ',"', self.joins[i].id, '"'
        r = r + 3
      end
    else
      local session, fresh = self:session_of(i, request)
      if told then self.joined = 0 end  -- it is told of numbers
      results[r + 1], results[r + 2], results[r + 3], results[r + 4] = GOES_ON, lefts[i], ',"', session.id
      results[r + 5] = '"'
      r = r + 5
      if request.bare then
        r = self:show_page(request, session, visitors[request.visitor], results, r, told)
      else
        local at = request.at
        turn_page(session.record, args[at + ASK_PAGE], args[at + ASK_CONTEXT], self)
        self:begin_visit(session, fresh)
        r = self:show_page(request, session, visitors[request.visitor], results, r, told)
        self:end_visit(request)
        written[session] = true
        if session.granted and request.visitor then
          local last = #visited
          visited[last + 1], visited[last + 2], visited[last + 3] = i, request.visitor, session
        end
      end
    end
  end
  if r == 0 then return '[]' end
  results[1] = results[1]:sub(3)
  return '[' .. table.concat(results) .. ']]'
end

-- Reads what remembers visitors of whom that was not needed before: one whose lease had ended was granted it again, and what
-- the visitor has on other pages stays remembered.
function Batch:load_visitors()
  local unread, visited = {}, self.visited
  for at = 1, #visited, 3 do
    if not self.looked_up[visited[at + 1]] then unread[#unread + 1] = visited[at + 1] end
  end
  for name, record in pairs(load_records(unread)) do self.visitors[name] = record end
end

-- Everything is decided: writes it.
function Batch:write()
  local account, keys, now, points, visited = self.account, self.keys, self.now, self.points, self.visited
  if self.limiter then self.limiter:write() end
  if self.v > 0 then
    self.visits[1], self.visits[self.v + 1] = '[{"session":"', '}]'
    points:add_visits(keys[KEY_VISITS], account.visits_kept, table.concat(self.visits))
  end
  points:write()
  for _, pool in pairs(self.pools) do
    pool:write()
    if pool.overflow_counts then Overflow.add(keys[KEY_OVERFLOW], pool.name, pool.overflow_counts, now) end
  end
  self.history:write(now)
  local life = account.session_idle + math.ceil(account.session_idle / 10)  -- longer than any lease it could hold
  for session in pairs(self.written) do
    local record = bound(session.record, FIRST_LEASE, LEASE)
    record[END] = now + life
    local kept = #record < FIRST_LEASE and life or math.max(life, account.leases_kept)
    redis.call('SET', session.key, cmsgpack.pack(record), 'PX', kept)
  end
  for at = 1, #visited, 3 do
    local i, key, session = visited[at], visited[at + 1], visited[at + 2]
    local had = remember(self.visitors[key] or {}, session, account.join and self:who(i), now)
    self.visitors[key] = had
    redis.call('SET', key, cmsgpack.pack(had), 'PX', account.visitor_ttl)
  end
end

-- Who asks.
function Batch:who(i)
  local at = self.requests[i].at
  return self.whos[i] or who_of(self.args[at + ASK_BROWSER], self.args[at + ASK_CONTEXT])
end

function Batch:reply(results)
  local points = self.points
  return '{"now":' .. self.now .. ',"day_end":' .. points.day_end .. ',"spent":' .. points.spent
    .. (points.back and ',"back":' .. points.back or '') .. ',"events":' .. self:events() .. ',"results":' .. results .. '}'
end

-- A batch with its results; or false, and what to answer, where none is decided. `told` as in `decide`.
local function decided(keys, args, told)
  local batch, answer = Batch.of(keys, args)
  if not batch then return false, answer end
  batch:admit()
  batch:load()
  batch:join()
  return batch, batch:decide(told)
end

local function resolve(keys, args)
  local batch, results = decided(keys, args)
  if not batch then return results end
  batch:load_visitors()
  batch:write()
  return batch:reply(results)
end

local function explain(keys, args)
  local told = {}
  local batch, results = decided(keys, args, told)
  if not batch then return results end
  return '{"results":' .. results .. ',"told":[' .. table.concat(told, ',') .. ']}'
end

redis.register_function('ep1_resolve', resolve)
redis.register_function{function_name = 'ep1_explain_resolve', callback = explain, flags = {'no-writes'}}
