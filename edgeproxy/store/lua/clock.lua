--
-- What is left of a clock that was ahead: leases and cooldowns from the future, and the points of a day that is to come.

local MOST = 500  -- leases, and cooldowns, of a pool that are brought to the present in one call

-- Brings a number's entries in the history to the present: what has ended ended no later than now, and what has not began
-- no later.
local function bring_entries(key, number, now)
  local found = redis.call('ZREVRANGEBYLEX', key, '(' .. number .. '\1', '[' .. number .. NUL, 'LIMIT', 0, PIECE)
  for _, member in ipairs(found) do
    local begin, ends, session, page = read_entry(member)
    if begin <= now and ends and ends <= now then return end
    if begin > now or ends and ends > now then
      begin = math.min(begin, now)
      redis.call('ZADD', key, 0, ends and entry(number, begin, math.min(ends, now), session, page)
        or table.concat({number, moment_text(begin), '', session, page}, NUL))
      redis.call('ZREM', key, member)  -- after that: a key that was empty would have no TTL
    end
  end
end

-- ep1_mend_clock: brings the leases, cooldowns and points of an account that are from the future to the present: a lease
-- ends `idle` from now, a cooldown lasts no longer than one that begins now, and what was spent was spent today.
--
-- KEYS  points, history, free (in no pool), then three a pool: free, leased, granted
-- ARGV  [1] now_ms, [2] JSON {midnight: of today, longest: cooldown, pools: [idle, …]}; ms, [3] "count", to change nothing
-- Reply, JSON: {"points", "leases", "cooldowns": how many were, or are, from the future, "more": whether there may be others}
local function mend_clock(keys, args)
  local now, settings, counts = clock(args[1]), cjson.decode(args[2]), args[3] == 'count'
  local told = {points = 0, leases = 0, cooldowns = 0, more = false}

  local day = tonumber(redis.call('HGET', keys[1], 'day') or nil)
  if day and day > now + DAY then
    told.points = 1
    if not counts then redis.call('HSET', keys[1], 'day', settings.midnight, 'visits', 0) end
  end

  local function cooldowns(free)
    local past = '(' .. string.format('%.0f', now + settings.longest)
    if counts then
      told.cooldowns = told.cooldowns + redis.call('ZCOUNT', free, past, '+inf')
      return
    end
    local found = redis.call('ZRANGEBYSCORE', free, past, '+inf', 'LIMIT', 0, MOST)
    for _, number in ipairs(found) do
      redis.call('ZADD', free, string.format('%.0f', now + settings.longest), number)
      bring_entries(keys[2], number, now)
    end
    told.cooldowns, told.more = told.cooldowns + #found, told.more or #found == MOST
  end

  cooldowns(keys[3])
  for i, idle in ipairs(settings.pools) do
    local free, leased, granted = keys[3 * i + 1], keys[3 * i + 2], keys[3 * i + 3]
    cooldowns(free)
    local past, ends = '(' .. string.format('%.0f', now + idle), string.format('%.0f', now + idle)
    if counts then
      told.leases = told.leases + redis.call('ZCOUNT', leased, past, '+inf')
    else
      local found = redis.call('ZRANGEBYSCORE', leased, past, '+inf', 'LIMIT', 0, MOST)
      for _, member in ipairs(found) do
        redis.call('ZADD', leased, ends, member)
        if tonumber(redis.call('ZSCORE', granted, member) or 0) > now then redis.call('ZADD', granted, now, member) end
        bring_entries(keys[2], member:match('^[^:]*'), now)
      end
      told.leases, told.more = told.leases + #found, told.more or #found == MOST
    end
  end
  return cjson.encode(told)
end

redis.register_function('ep1_mend_clock', mend_clock)
