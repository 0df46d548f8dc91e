#!lua name=ep1_resolve
--
-- ep1_resolve: decides a batch of requests of one account in one call (CONTRACT §1 and §2).
--
--   limiter → points → session → lease → visit record
--
-- Everything is read and decided first and written last, so a call that fails has changed nothing, and what a batch
-- shares (the points counter, the pool's order, the reply) is touched once. Requests are decided in the order they came.
--
-- KEYS  account, points, visits, three of the limiter, three a pool (free, leased, granted), then any that requests name
-- ARGV  [1] now_ms: epoch ms; 0 is the store's own time
--       [2] account, JSON: version, cost, budget, per_second, days (midnights, ascending), session_idle, visitor_ttl,
--           visits_kept, pools: [[name, idle, max, cooldown, overflow, shared_number], …]; times in ms
--       [3] deadline_ms: epoch ms; a call that the store comes to later does nothing; 0 is no deadline
--       [4] requests, JSON, one array each:
--           [ip, session id or "", its key's index, fresh session id, its key's index, visitor key's index or 0,
--            bare (1: a crawler or dry run, nothing is written), number on page, pool index (from 1), …]
--       [5…] a visit's JSON for each request
--
-- Reply, JSON:
--   {"stale": true}                      the account's version is another one: read it again
--   {"late": true, "now": ms}            the deadline has passed
--   {"now", "day_end", "spent", "events", "results": [[0, session id, left in the window, tracking number or false, …]
--                                                     [1, ms until the window has room]
--                                                     [2, left in the window]  the budget is spent
--                                                     [3, left in the window]  the account has no pool]}
--   a tracking number leased from another pool than the one asked for stands as "number/index of its pool"
--   events: leases granted, renewed, recycled; numbers on page left as they are, and shown a shared number

local HEAD = 6           -- keys before the pools'
local WINDOW = 1000      -- ms that the limiter looks back
local SWEEP = 64         -- ended leases that a batch puts back beyond those it needs
local MOST_LEASES = 256  -- numbers on page that a session remembers
local UNPACK = 2000      -- values for one command; Lua's stack bounds it

local OK, BLOCKED, SPENT, NO_POOL = 0, 1, 2, 3

local function clock(now_ms)
  local now = tonumber(now_ms)
  if now > 0 then return now end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function in_chunks(command, key, values, width)
  local step = UNPACK - UNPACK % width
  for first = 1, #values, step do
    redis.call(command, key, unpack(values, first, math.min(first + step - 1, #values)))
  end
end

-- The limiter -------------------------------------------------------------------------------------------------------
-- A hash a clock second: field '@' is the second it holds, the others are client IPs with the moments of their accepted
-- requests, two bytes each (ms within the second), in order. The second before is all that a window still reaches into.

local Limiter = {}
Limiter.__index = Limiter

local function read_second(key, second, ips)
  local moments = redis.call('HMGET', key, '@', unpack(ips))
  local held = moments[1] == tostring(second)
  local of = {}
  for i, ip in ipairs(ips) do of[ip] = held and moments[i + 1] or '' end
  return of, held
end

function Limiter.read(keys, now, ips, limit)
  local second = math.floor(now / 1000)
  local self = setmetatable({limit = limit, second = second, ms = now % 1000, accepted = {}}, Limiter)
  self.key = keys[4 + second % 3]
  self.this, self.held = read_second(self.key, second, ips)
  self.before = read_second(keys[4 + (second - 1) % 3], second - 1, ips)
  return self
end

-- Takes a place in the window of `ip`: true and the places left, or false and the ms until there is one.
-- Moments are whole ms, so those exactly WINDOW apart may be a little less: they count as in one window.
function Limiter:take(ip)
  local this, before = self.this[ip], self.before[ip]
  local first = #before + 1
  for at = 1, #before, 2 do
    if before:byte(at) * 256 + before:byte(at + 1) >= self.ms then
      first = at
      break
    end
  end
  local used = (#before - first + 1) / 2 + #this / 2
  if used >= self.limit then
    local leaving = used - self.limit + 1
    local old = (#before - first + 1) / 2
    local moments, at = before, first + 2 * (leaving - 1)
    local second = -1000
    if leaving > old then
      moments, at, second = this, 2 * (leaving - old - 1) + 1, 0
    end
    return false, second + moments:byte(at) * 256 + moments:byte(at + 1) + WINDOW + 1 - self.ms
  end
  self.this[ip] = this .. string.char(math.floor(self.ms / 256), self.ms % 256)
  self.accepted[ip] = true
  return true, self.limit - used - 1
end

function Limiter:write()
  local values = {}
  for ip in pairs(self.accepted) do
    values[#values + 1] = ip
    values[#values + 1] = self.this[ip]
  end
  if #values == 0 then return end
  if not self.held then
    redis.call('DEL', self.key)
    redis.call('HSET', self.key, '@', tostring(self.second))
    redis.call('PEXPIRE', self.key, 3 * WINDOW)
  end
  in_chunks('HSET', self.key, values, 2)
end

-- Points ------------------------------------------------------------------------------------------------------------

local Points = {}
Points.__index = Points

function Points.read(key, now, account)
  local today
  for i, midnight in ipairs(account.days) do
    if midnight <= now then today = i end
  end
  if not today or not account.days[today + 1] then return nil end
  local held = redis.call('HMGET', key, 'day', 'spent')
  local self = setmetatable({
    key = key, now = now, cost = account.cost, budget = account.budget,
    day = account.days[today], day_end = account.days[today + 1], spent = 0,
  }, Points)
  -- A clock that went back over midnight, or a time zone moved west, does not give the day's budget a second time.
  if held[1] and tonumber(held[1]) >= self.day then
    self.day, self.spent = tonumber(held[1]), tonumber(held[2])
  end
  self.before = self.spent
  return self
end

function Points:cover()
  return self.spent + self.cost <= self.budget
end

function Points:spend()
  self.spent = self.spent + self.cost
end

function Points:write()
  if self.spent == self.before then return end
  redis.call('HSET', self.key, 'day', string.format('%.0f', self.day), 'spent', string.format('%.0f', self.spent))
  redis.call('PEXPIRE', self.key, string.format('%.0f', self.day_end - self.now + 86400000))
end

-- Pools -------------------------------------------------------------------------------------------------------------
-- A tracking number is free → leased → cooling down → free. A lease that has ended is put back when somebody next needs
-- a number of the pool; until then its end stands in `leased`, and that decides.

local Pool = {}
Pool.__index = Pool

function Pool.of(index, settings, free_key, leased_key, granted_key)
  return setmetatable({
    index = index, name = settings[1], idle = settings[2], max = settings[3], cooldown = settings[4],
    overflow = settings[5], shared = settings[6],
    free_key = free_key, leased_key = leased_key, granted_key = granted_key,
    want = 0,        -- numbers that this batch may need
    asked = {},      -- members whose end is to be read
    ends = {},       -- member → end of its lease, as far as known
    lease = {},      -- member → end to be written
    begin = {},      -- member → begin to be written
    begun = {},      -- members granted by this batch, in order
    drop = {},       -- members to be removed
    release = {},    -- number → when it can be leased, to be written
    taken = {},      -- numbers leased by this batch
  }, Pool)
end

local function member_of(number, session) return number .. ':' .. session end
local function number_of(member) return member:sub(1, member:find(':', 1, true) - 1) end

local function members_of(set)
  local values = {}
  for value in pairs(set) do values[#values + 1] = value end
  return values
end

function Pool:read_ends()
  local members = members_of(self.asked)
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
  local queue = scored(redis.call('ZRANGEBYSCORE', self.free_key, '-inf', now, 'WITHSCORES', 'LIMIT', 0, self.want))
  local ended = scored(
    redis.call('ZRANGEBYSCORE', self.leased_key, '-inf', now, 'WITHSCORES', 'LIMIT', 0, self.want + SWEEP))
  for _, lease in ipairs(ended) do
    local number, at = number_of(lease[1]), lease[2] + self.cooldown
    self.drop[lease[1]] = true
    self.release[number] = at
    if at <= now then queue[#queue + 1] = {number, at} end
  end
  table.sort(queue, earlier)
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

-- Ends the oldest lease early; where there is none, the longest cooldown.
function Pool:recycle(now)
  if not self.oldest then
    self.oldest = redis.call('ZRANGE', self.granted_key, 0, self.want + self.swept - 1)
    local free = redis.call('ZRANGEBYSCORE', self.free_key, '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, self.want)
    self.cooling = scored(free)
    for number, at in pairs(self.release) do
      if at > now then self.cooling[#self.cooling + 1] = {number, at} end
    end
    table.sort(self.cooling, earlier)
    self.next_oldest, self.next_cooling = 1, 1
  end
  while self.next_oldest <= #self.oldest + #self.begun do
    local member = self.oldest[self.next_oldest] or self.begun[self.next_oldest - #self.oldest]
    self.next_oldest = self.next_oldest + 1
    if not self.drop[member] then
      self:end_lease(member)
      return number_of(member)
    end
  end
  while self.next_cooling <= #self.cooling do
    local number = self.cooling[self.next_cooling][1]
    self.next_cooling = self.next_cooling + 1
    if not self.taken[number] then return number end
  end
end

function Pool:end_lease(member)
  self.drop[member] = true
  self.lease[member], self.begin[member], self.ends[member] = nil, nil, nil
end

function Pool:grant(number, session, now)
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
    values[#values + 1] = string.format('%.0f', score)
    values[#values + 1] = member
  end
  return values
end

function Pool:write()
  local dropped = members_of(self.drop)
  in_chunks('ZREM', self.leased_key, dropped, 1)
  in_chunks('ZREM', self.granted_key, dropped, 1)  -- the pool may have recycled when the lease was granted
  in_chunks('ZREM', self.free_key, members_of(self.taken), 1)
  in_chunks('ZADD', self.free_key, pairs_of(self.release), 2)
  in_chunks('ZADD', self.leased_key, pairs_of(self.lease), 2)
  in_chunks('ZADD', self.granted_key, pairs_of(self.begin), 2)
end

-- Requests ----------------------------------------------------------------------------------------------------------

local FIRST_PAGE = 8  -- a request's numbers on page begin here, each with its pool's index

local function load_records(keys, indices)
  local records = {}
  for first = 1, #indices, UNPACK do
    local names = {}
    for i = first, math.min(first + UNPACK - 1, #indices) do names[#names + 1] = keys[indices[i]] end
    local found = redis.call('MGET', unpack(names))
    for i, packed in ipairs(found) do
      records[indices[first + i - 1]] = packed and cmsgpack.unpack(packed) or nil
    end
  end
  return records
end

-- Forgets the oldest of a session's leases beyond what it may remember.
local function bound(leases)
  local begun = {}
  for page, lease in pairs(leases) do begun[#begun + 1] = {page, lease.since} end
  if #begun <= MOST_LEASES then return end
  table.sort(begun, earlier)
  for i = 1, #begun - MOST_LEASES do leases[begun[i][1]] = nil end
end

local function resolve(keys, args)
  local now = clock(args[1])
  local account = cjson.decode(args[2])
  local deadline = tonumber(args[3])
  if deadline > 0 and now > deadline then return cjson.encode({late = true, now = now}) end
  if redis.call('HGET', keys[1], 'version') ~= tostring(account.version) then
    return cjson.encode({stale = true})
  end
  local requests = cjson.decode(args[4])

  local pools, pool_named = {}, {}
  for i, settings in ipairs(account.pools) do
    local at = HEAD + 3 * (i - 1)
    pools[i] = Pool.of(i, settings, keys[at + 1], keys[at + 2], keys[at + 3])
    pool_named[settings[1]] = pools[i]
  end

  local points = Points.read(keys[2], now, account)
  if not points then return redis.error_reply('CLOCK the store and the gateway are days apart') end
  local ips, seen = {}, {}
  for _, request in ipairs(requests) do
    if not seen[request[1]] then
      seen[request[1]] = true
      ips[#ips + 1] = request[1]
    end
  end
  local limiter = Limiter.read(keys, now, ips, account.per_second)

  -- Limiter and points: who may go on.
  local results, accepted = {}, {}
  for i, request in ipairs(requests) do
    local passed, left = limiter:take(request[1])
    if not passed then
      results[i] = {BLOCKED, left}
    elseif not points:cover() then
      results[i] = {SPENT, left}
    elseif #pools == 0 then
      results[i] = {NO_POOL, left}
    else
      points:spend()
      results[i] = {OK, '', left}
      accepted[#accepted + 1] = i
    end
  end

  -- Sessions: those that live, with the ends of their leases; and what visitors had before who lack a lease.
  local wanted = {}
  for _, i in ipairs(accepted) do
    if requests[i][2] ~= '' then wanted[#wanted + 1] = requests[i][3] end
  end
  local records = load_records(keys, wanted)
  local sessions, returning = {}, {}
  for _, i in ipairs(accepted) do
    local request = requests[i]
    local id = request[2]
    local record = records[request[3]]
    if id ~= '' and record and record.ends > now then
      sessions[id] = sessions[id] or {id = id, key = request[3], ends = record.ends, leases = record.leases}
    end
    local session, leased = sessions[id], true
    for at = FIRST_PAGE, #request, 2 do
      local lease = session and session.leases[request[at]]
      local pool = lease and pool_named[lease.pool]
      if pool then pool.asked[member_of(lease.number, id)] = true end
      leased = leased and pool
      pools[request[at + 1]].want = pools[request[at + 1]].want + 1
    end
    if request[6] > 0 and not leased then returning[#returning + 1] = request[6] end
  end
  for _, pool in ipairs(pools) do pool:read_ends() end
  local visitors = load_records(keys, returning)

  -- Leases.
  local events = {granted = 0, renewed = 0, recycled = 0, original = 0, shared = 0}
  local visits, changed_visitors = {}, {}

  local function allocate(pool, session, page, visitor)
    pool:open(now)
    local before = session.leases[page] or (visitor and visitor[page])
    local number = before and before.pool == pool.name
      and pool:regain(before.number, before.session or session.id, now) or pool:longest_released()
    if not number and pool.overflow == 'recycle' then
      number = pool:recycle(now)
      if number then events.recycled = events.recycled + 1 end
    end
    if not number then return nil end
    pool:grant(number, session.id, now)
    session.leases[page] = {pool = pool.name, number = number, since = now}
    session.changed, session.granted = true, true
    events.granted = events.granted + 1
    return number
  end

  for _, i in ipairs(accepted) do
    local request, result = requests[i], results[i]
    local bare = request[7] == 1
    local session = sessions[request[2]]
    local visitor = visitors[request[6]]
    local fresh = not session
    if fresh then
      session = {id = request[4], key = request[5], ends = 0, leases = {}}
    end
    result[2] = session.id
    local shown = {}
    for at = FIRST_PAGE, #request, 2 do
      local page, pool = request[at], pools[request[at + 1]]
      local lease = session.leases[page]
      local holder = lease and pool_named[lease.pool]
      local member = holder and member_of(lease.number, session.id)
      local ends = member and holder.ends[member]
      local number = false
      if ends and ends > now and lease.since + holder.max > now then
        number = lease.number
        if not bare then
          holder.lease[member] = math.min(now + holder.idle, lease.since + holder.max)
          holder.ends[member] = holder.lease[member]
          events.renewed = events.renewed + 1
        end
      elseif not bare then
        number = allocate(pool, session, page, visitor) or false
      end
      local kind = 'lease'
      if not number and not bare then
        if pool.overflow == 'shared' then
          number, kind = pool.shared, 'shared'
          events.shared = events.shared + 1
        else
          events.original = events.original + 1
        end
      end
      local other = kind == 'lease' and number and holder and session.leases[page] == lease and holder ~= pool
      result[#result + 1] = other and number .. '/' .. holder.index or number
      if number then shown[#shown + 1] = '"' .. page .. '":["' .. number .. '","' .. kind .. '"]' end
    end
    if not bare then
      if fresh then session.changed = true end
      sessions[session.id] = session
      if session.granted and request[6] > 0 then changed_visitors[request[6]] = session end
      visits[#visits + 1] = '{"session":"' .. session.id .. '","new":' .. tostring(fresh)
        .. ',"numbers":{' .. table.concat(shown, ',') .. '},"visit":' .. args[4 + i] .. '}'
    end
  end

  -- Everything is decided: write it.
  limiter:write()
  points:write()
  for _, pool in ipairs(pools) do pool:write() end
  for _, session in pairs(sessions) do
    -- A session is written again when a tenth of its life has passed, and lives that much longer in return.
    if session.changed or session.ends - now < account.session_idle then
      bound(session.leases)
      local life = math.ceil(account.session_idle * 1.1)
      local record = cmsgpack.pack({ends = now + life, leases = session.leases})
      redis.call('SET', keys[session.key], record, 'PX', string.format('%.0f', life))
    end
  end
  for index, session in pairs(changed_visitors) do
    local had = visitors[index] or {}
    for page, lease in pairs(session.leases) do
      had[page] = {pool = lease.pool, number = lease.number, session = session.id, since = lease.since}
    end
    bound(had)
    redis.call('SET', keys[index], cmsgpack.pack(had), 'PX', string.format('%.0f', account.visitor_ttl))
  end
  if #visits > 0 then
    local kept = string.format('%.0f', account.visits_kept)
    redis.call('XADD', keys[3], 'MINID', '~', string.format('%.0f', math.max(0, now - account.visits_kept)), '*',
      'visits', '[' .. table.concat(visits, ',') .. ']')
    redis.call('PEXPIRE', keys[3], kept)
  end
  return cjson.encode({now = now, day_end = points.day_end, spent = points.spent, events = events, results = results})
end

redis.register_function('ep1_resolve', resolve)
