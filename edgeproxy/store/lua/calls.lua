--
-- Calls of an account: who held a number at a moment, what is known of a call, and what it does to a lease
-- (`calls/README.md`).

local FOUND_MOST = 64  -- leases that are told of one number and moment
local LATE = 60000     -- ms within which one is asked about the present

local Search = {}
Search.__index = Search

-- When the session's lease, which is not put back, ends; 0 if that is not known. It has to be looked for from the
-- latest on: where an entry was never finished, `leased` knows the later lease of the same session.
function Search:end_of(session)
  if self.leased and not self.live[session] then
    local ends = redis.call('ZSCORE', self.leased, self.number .. ':' .. session)
    if ends then
      self.live[session] = true
      return tonumber(ends)
    end
  end
  return self.next_begin or 0
end

function Search:add(session, page, begin, ends, cools)
  self.leases[#self.leases + 1] = {session, page, begin, ends, cools or false}
end

-- Leases that begin in the future, as the store's clock was ahead when they began: they are the present's.
function Search:look_ahead(now)
  local from = '[' .. self.number .. NUL .. moment_text(math.max(now, self.at) + 1)
  for _, member in ipairs(self:entries('(' .. self.number .. '\1', from)) do
    local _, ends, session, page = read_entry(member)
    local live = not ends and self:end_of(session)
    if live and live > self.at then
      self:add(session, page, self.at, live)
    elseif self.reach > 0 and (ends or now) <= now + DAY then
      self:add(session, page, self.at, self.at)
    end
  end
end

function Search:entries(past, from)
  return redis.call('ZREVRANGEBYLEX', self.history, past, from, 'LIMIT', 0, PIECE)
end

-- Whether the number was leased after the moment: it is that lease which it cools down after.
function Search:later()
  local from = '[' .. self.number .. NUL .. moment_text(self.at + 1)
  return redis.call('ZLEXCOUNT', self.history, from, '(' .. self.number .. '\1') > 0
end

function Search:look_back(now)
  local past, from = '(' .. self.number .. NUL .. moment_text(self.at + 1), '[' .. self.number .. NUL
  for _ = 1, PIECES do
    local members, over = self:entries(past, from), false
    for _, member in ipairs(members) do
      local begin, ends, session, page = read_entry(member)
      ends = ends and math.min(ends, now) or self:end_of(session)  -- what is put back has ended, whatever the clock said
      local found = begin <= self.at and (ends == 0 or ends + self.reach > self.at or self.ready > self.at)
      if found then self:add(session, page, begin, ends, self.ready > self.at) end
      if begin < ends then self.ready = 0 end  -- it is the last one's that cools down
      if #self.leases >= FOUND_MOST then return end
      over = not found and begin < ends
      self.next_begin = begin
    end
    if over or #members < PIECE then return end
    past = '(' .. members[#members]
  end
end

-- ep1_find_leases: the leases that held a number at a moment, or had ended less than `reach` before, and the one that
-- the number still cools down after, which it may have brought from another pool; latest first, and at most FOUND_MOST.
--
-- KEYS  history, then the set of numbers to lease that the number is in when it is `free`, if it is in any, and the
--       `leased` of its pool, if it is in one
-- ARGV  [1] now_ms, [2] the number, [3] the moment, epoch ms, [4] reach in ms
-- Reply, JSON: {"leases": [[session, number on page, begin, end, whether the number cools down after it], …]}; epoch ms; a
--       lease whose end is not known ends at 0
local function find_leases(keys, args)
  local now = clock(args[1])
  local search = setmetatable({
    history = keys[1], leased = keys[3], number = args[2], at = tonumber(args[3]), reach = tonumber(args[4]),
    leases = {}, live = {}, next_begin = false,
  }, Search)
  search.ready = keys[2] and tonumber(redis.call('ZSCORE', keys[2], search.number) or nil) or 0
  if search.ready > search.at and search:later() then search.ready = 0 end
  if search.at + LATE > now then search:look_ahead(now) end
  search:look_back(now)
  return #search.leases == 0 and '{"leases":[]}' or cjson.encode({leases = search.leases})
end

-- ep1_read_visits: what is known of the visit of each session. KEYS  sessions
-- Reply, JSON: {"visits": [visit (see `told` in sessions.lua) or null, …]}
local function read_visits(keys, args)
  local visits = {}
  for i, packed in ipairs(redis.call('MGET', unpack(keys))) do visits[i] = told(packed) end
  return '{"visits":[' .. table.concat(visits, ',') .. ']}'
end

local Lease = {}

-- A lease lives on as if its visitor had asked again.
function Lease.extend(keys, now, lease)
  local ends = math.min(now + lease.idle, lease.begin + lease.max)
  redis.call('ZADD', keys.leased, 'XX', 'GT', ends, lease.number .. ':' .. lease.session)
end

-- A lease ends, and its number cools down.
function Lease.release(keys, now, lease)
  local member = lease.number .. ':' .. lease.session
  local ends = tonumber(redis.call('ZSCORE', keys.leased, member) or nil)
  if not ends then return end
  ends = math.min(ends, now)
  redis.call('ZREM', keys.leased, member)
  redis.call('ZREM', keys.granted, member)
  redis.call('ZADD', keys.free, ends + lease.cooldown, lease.number)
  local history = History.of(keys.history, lease.kept)
  history:finish(lease.number, lease.session, ends)
  history:write(now)
end

-- ep1_release_lease. KEYS  history, free, leased, granted. ARGV  [1] now_ms, [2] the lease, JSON, as ep1_put_call's
local function release_lease(keys, args)
  Lease.release({history = keys[1], free = keys[2], leased = keys[3], granted = keys[4]}, clock(args[1]), cjson.decode(args[2]))
  return '{"released":true}'
end

-- ep1_put_call: replaces what is known of a call, if nobody else did meanwhile; tells the stream; lists its record.
--
-- KEYS  the call under the name that it is to be kept under, and under its other one; calls (stream), history, a pool's
--       free, leased and granted (or three times history), then for a call that has ended its record (cdr) and the sets
--       that this is listed in
-- ARGV  [1] now_ms, [2] calls_kept in ms, [3] visits_kept in ms, [4] what the caller read, or "", [5] what is to be known
--       [6] the event for the stream, JSON, or ""
--       [7] what becomes of the lease, JSON, or "": {"does": "extend" or "release", number, session, begin, idle, max,
--           cooldown, kept}
--       [8] when the call began, epoch ms, [9] the record's id, [10] the record, JSON
-- Reply, JSON: {"put": true}, or {"refused": "moved"}: read again
local function put_call(keys, args)
  local now, kept = clock(args[1]), tonumber(args[2])
  if (redis.call('GET', keys[1]) or redis.call('GET', keys[2]) or '') ~= args[4] then return '{"refused":"moved"}' end
  redis.call('SET', keys[1], args[5], 'PX', kept)
  if keys[2] ~= keys[1] then redis.call('DEL', keys[2]) end
  if args[6] ~= '' then
    local stream_kept = tonumber(args[3])
    redis.call('XADD', keys[3], 'MINID', '~', math.max(0, now - stream_kept), '*', 'call', args[6])
    redis.call('PEXPIRE', keys[3], stream_kept)
  end
  if args[7] ~= '' then
    local lease = cjson.decode(args[7])
    Lease[lease.does]({history = keys[4], free = keys[5], leased = keys[6], granted = keys[7]}, now, lease)
  end
  if keys[8] then
    local start = tonumber(args[8])
    local life = start + kept - now
    if life > 0 then
      redis.call('SET', keys[8], args[10], 'PX', life)
      for i = 9, #keys do
        redis.call('ZREMRANGEBYSCORE', keys[i], '-inf', '(' .. now - kept)
        redis.call('ZADD', keys[i], start, args[9])
        local latest = redis.call('ZRANGE', keys[i], -1, -1, 'WITHSCORES')
        redis.call('PEXPIRE', keys[i], tonumber(latest[2]) + kept - now)
      end
    end
  end
  return '{"put":true}'
end

-- ep1_replace_entry: puts what is left of an entry into its stream, unless the entry is gone.
--
-- KEYS  the stream. ARGV  [1] the entry's id, [2] its field, [3] JSON, [4] the id that it `replaces`
-- Reply, JSON: {"replaced": …}
local function replace_entry(keys, args)
  if redis.call('XDEL', keys[1], args[1]) == 0 then return '{"replaced":false}' end
  redis.call('XADD', keys[1], 'NOMKSTREAM', '*', args[2], args[3], 'replaces', args[4])
  return '{"replaced":true}'
end

-- ep1_clear_record: replaces a call's record, if it still is as it was read, and takes it out of a set that listed it.
--
-- KEYS  cdr, and the set if there is one. ARGV  [1] what was read, [2] what is to be kept, [3] the record's id
-- Reply, JSON: {"put": true}, or {"refused": "moved"}
local function clear_record(keys, args)
  if redis.call('GET', keys[1]) ~= args[1] then return '{"refused":"moved"}' end
  redis.call('SET', keys[1], args[2], 'KEEPTTL')
  if keys[2] then redis.call('ZREM', keys[2], args[3]) end
  return '{"put":true}'
end

local VISITOR_LEASE = LEASE + 1  -- values of a visitor's lease, the last the session

-- ep1_sessions_of_visitor. KEYS  visitor. Reply, JSON: {"sessions": [the sessions whose numbers it remembers]}
local function sessions_of_visitor(keys, args)
  local record, sessions = cmsgpack.unpack(redis.call('GET', keys[1]) or cmsgpack.pack({})), {}
  for at = VISITOR_LEASE, #record, VISITOR_LEASE do
    if record[at] ~= '' then sessions[#sessions + 1] = record[at] end
  end
  return #sessions == 0 and '{"sessions":[]}' or cjson.encode({sessions = sessions})
end

-- ep1_forget_sessions: takes sessions out of what visitors are remembered to have had.
--
-- KEYS  visitors. ARGV  the sessions. Reply, JSON: {"visitors": how many had one}
local function forget_sessions(keys, args)
  local forgotten, count = {}, 0
  for _, session in ipairs(args) do forgotten[session] = true end
  for first = 1, #keys, UNPACK do
    local last = math.min(first + UNPACK - 1, #keys)
    for i, packed in ipairs(redis.call('MGET', unpack(keys, first, last))) do
      local record, kept = packed and cmsgpack.unpack(packed) or {}, {}
      for at = VISITOR_LEASE, #record, VISITOR_LEASE do
        if not forgotten[record[at]] then
          for value = at - VISITOR_LEASE + 1, at do kept[#kept + 1] = record[value] end
        end
      end
      if #kept < #record then
        count = count + 1
        if #kept == 0 then
          redis.call('DEL', keys[first + i - 1])
        else
          redis.call('SET', keys[first + i - 1], cmsgpack.pack(kept), 'KEEPTTL')
        end
      end
    end
  end
  return '{"visitors":' .. count .. '}'
end

redis.register_function('ep1_replace_entry', replace_entry)
redis.register_function('ep1_clear_record', clear_record)
redis.register_function('ep1_sessions_of_visitor', sessions_of_visitor)
redis.register_function('ep1_forget_sessions', forget_sessions)
redis.register_function('ep1_find_leases', find_leases)
redis.register_function('ep1_read_visits', read_visits)
redis.register_function('ep1_release_lease', release_lease)
redis.register_function('ep1_put_call', put_call)
