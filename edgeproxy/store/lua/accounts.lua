--
-- What an account may use: who owns which number, the account's configuration, the numbers of its pools.

-- ep1_claim: makes tracking numbers the property of accounts, all of them or none.
--
-- KEYS  owners
-- ARGV  [1] JSON {account: [number, …], …}, [2] the like: numbers that accounts give up for this, to whom else it be
-- Reply, JSON: [[number, the account that owns it], …]; empty ([]): all are claimed
local function claim(keys, args)
  local conflicts, values, given_up = {}, {}, {}
  for account, numbers in pairs(cjson.decode(args[2])) do
    for _, number in ipairs(numbers) do given_up[number] = account end
  end
  for account, numbers in pairs(cjson.decode(args[1])) do
    for first = 1, #numbers, UNPACK do
      local last = math.min(first + UNPACK - 1, #numbers)
      local owners = redis.call('HMGET', keys[1], unpack(numbers, first, last))
      for i, owner in ipairs(owners) do
        local number = numbers[first + i - 1]
        if owner and owner ~= account and owner ~= given_up[number] then conflicts[#conflicts + 1] = {number, owner} end
        values[#values + 1] = number
        values[#values + 1] = account
      end
    end
  end
  if #conflicts > 0 then return cjson.encode(conflicts) end
  in_chunks('HSET', keys[1], values, 2)
  return '[]'
end

-- ep1_disclaim: gives numbers up; those that another account owns stay its own.
--
-- KEYS  owners
-- ARGV  [1] account, [2] JSON [number, …]
local function disclaim(keys, args)
  for _, number in ipairs(cjson.decode(args[2])) do
    if redis.call('HGET', keys[1], number) == args[1] then redis.call('HDEL', keys[1], number) end
  end
  return 'OK'
end

-- Cooldowns of numbers that leave their account are kept, for whichever account takes them: a sorted set, number → when
-- it can be leased.
local function keep_cooldowns(key, now, cooling)
  local scores = {}
  for number, at in pairs(cooling) do
    scores[#scores + 1] = string.format('%.0f', at)
    scores[#scores + 1] = number
  end
  in_chunks('ZADD', key, scores, 2)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  local last = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]
  if last then redis.call('PEXPIRE', key, string.format('%.0f', tonumber(last) - now)) end
end

-- ep1_leave_account: how long numbers cool down that are about to leave the account. Their leases end.
--
-- KEYS  free, then three a pool (free, leased, granted), then `left`, where that is on the same server: it is kept there
-- ARGV  [1] now_ms, [2] JSON [[the numbers that leave a pool, its cooldown in ms], …], as in KEYS
--       [3] JSON [number that leaves the free ones, …]
-- Reply, JSON: {number: when it can be leased, …}, of those that cool down
local function leave(keys, args)
  local now, pools, loose = clock(args[1]), cjson.decode(args[2]), cjson.decode(args[3])
  local cooling, all = {}, {}
  local function note(number, at)
    all[#all + 1] = number
    at = tonumber(at or nil)
    if at and at > now then cooling[number] = at end
  end
  for _, number in ipairs(loose) do note(number, redis.call('ZSCORE', keys[1], number)) end
  for i, pool in ipairs(pools) do
    local free, leased, leaving = keys[3 * i - 1], keys[3 * i], {}
    for _, number in ipairs(pool[1]) do
      leaving[number] = true
      note(number, redis.call('ZSCORE', free, number))
    end
    if next(leaving) then
      local leases = redis.call('ZRANGE', leased, 0, -1, 'WITHSCORES')
      for at = 1, #leases, 2 do
        local number = leases[at]:match('^[^:]*')
        if leaving[number] then note(number, math.min(now, tonumber(leases[at + 1])) + pool[2]) end
      end
    end
  end
  local left = keys[3 * #pools + 2]
  if left then
    in_chunks('ZREM', left, all, 1)
    keep_cooldowns(left, now, cooling)
  end
  return next(cooling) and cjson.encode(cooling) or '{}'
end

-- ep1_keep_cooldowns, of numbers that leave an account of another server. KEYS  left
-- ARGV  [1] now_ms, [2] JSON {number: when it can be leased, …}
local function keep(keys, args)
  keep_cooldowns(keys[1], clock(args[1]), cjson.decode(args[2]))
  return 'OK'
end

-- ep1_save_account: replaces an account's configuration and moves its numbers between pools and the free numbers that
-- are in none, in one step. A number that leaves a pool ends its lease, and keeps the cooldown it has wherever it goes;
-- one that the account did not have comes with the cooldown that it left another with.
--
-- KEYS  account, numbers, free, history, then three a pool (free, leased, granted), then `left`, where that is on the same
--       server
-- ARGV  [1] now_ms: epoch ms; 0 is the store's own time
--       [2] the account's name
--       [3] the version that the caller read ("" where there was no account)
--       [4] the configuration (JSON)
--       [5] JSON [[pool, [number that leaves it, …], [number that enters it, …], its cooldown in ms], …], as in KEYS
--       [6] JSON [[number that leaves the free ones, …], [number that enters them, …]]
--       [7] leases_kept: ms
--       [8] JSON {number: when it can be leased, …}, of those that left other accounts, where `left` is not in KEYS
-- Reply: the account's version, or nil, and nothing written, where another writer was faster: read again
local function save(keys, args)
  local now = clock(args[1])
  local version = redis.call('HGET', keys[1], 'version') or ''
  if version ~= args[3] or redis.call('HEXISTS', keys[1], 'removed') == 1 then return false end
  local pools, loose = cjson.decode(args[5]), cjson.decode(args[6])
  for _, number in ipairs(loose[1]) do
    if redis.call('HGET', keys[2], number) ~= 'free' then return false end  -- a source took it meanwhile
  end
  local left, brought = keys[3 * #pools + 5], cjson.decode(args[8])
  if left and redis.call('EXISTS', left) == 0 then left = nil end
  local history = History.of(keys[4], tonumber(args[7]))

  local ready = {}
  for _, number in ipairs(loose[1]) do
    local at = tonumber(redis.call('ZSCORE', keys[3], number) or nil)
    ready[number] = at and at > now and at or nil
    redis.call('ZREM', keys[3], number)
    redis.call('HDEL', keys[2], number)
  end
  for i, pool in ipairs(pools) do
    local free, leased, granted = keys[3 * i + 2], keys[3 * i + 3], keys[3 * i + 4]
    local leaving = {}
    for _, number in ipairs(pool[2]) do
      leaving[number] = true
      ready[number] = tonumber(redis.call('ZSCORE', free, number) or nil)
      redis.call('ZREM', free, number)
      redis.call('HDEL', keys[2], number)
    end
    if next(leaving) then
      local leases = redis.call('ZRANGE', leased, 0, -1, 'WITHSCORES')
      for at = 1, #leases, 2 do
        local number, session = leases[at]:match('^([^:]*):(.*)$')
        if leaving[number] then
          local ended_at = math.min(now, tonumber(leases[at + 1]))
          history:finish(number, session, ended_at)
          ready[number] = ended_at + pool[4]
          redis.call('ZREM', leased, leases[at])
          redis.call('ZREM', granted, leases[at])
        end
      end
    end
  end
  local function ready_at(number)
    return string.format('%.0f', ready[number] or left and redis.call('ZSCORE', left, number) or brought[number] or 0)
  end
  for i, pool in ipairs(pools) do
    local free, states = {}, {}
    for _, number in ipairs(pool[3]) do
      free[#free + 1] = ready_at(number)
      free[#free + 1] = number
      states[#states + 1] = number
      states[#states + 1] = 'pool:' .. pool[1]
    end
    in_chunks('ZADD', keys[3 * i + 2], free, 2)
    in_chunks('HSET', keys[2], states, 2)
  end
  local free, states = {}, {}
  for _, number in ipairs(loose[2]) do
    free[#free + 1] = ready_at(number)
    free[#free + 1] = number
    states[#states + 1] = number
    states[#states + 1] = 'free'
  end
  in_chunks('ZADD', keys[3], free, 2)
  in_chunks('HSET', keys[2], states, 2)
  history:write(now)
  version = string.format('%d', tonumber(version ~= '' and version or 0) + 1)
  redis.call('HSET', keys[1], 'version', version, 'config', args[4])
  redis.call('PUBLISH', 'ep1:changed', args[2])
  return version
end

-- ep1_retire_account: from now on nobody is served for the account, and nothing can be loaded into it. Its configuration
-- stays until all else that it has is gone, and the moment stands beside it.
--
-- KEYS  account
-- ARGV  [1] now_ms, [2] the account's name, [3] the version that the caller read, "" where there was none any more
-- Reply: OK, or nil, and nothing written, where another writer was faster
local function retire(keys, args)
  if (redis.call('HGET', keys[1], 'version') or '') ~= args[3] then return false end
  redis.call('HSET', keys[1], 'removed', string.format('%.0f', clock(args[1])))
  redis.call('HDEL', keys[1], 'version', 'salt')
  redis.call('PUBLISH', 'ep1:changed', args[2])
  return 'OK'
end

redis.register_function('ep1_claim', claim)
redis.register_function('ep1_retire_account', retire)
redis.register_function('ep1_disclaim', disclaim)
redis.register_function('ep1_leave_account', leave)
redis.register_function('ep1_keep_cooldowns', keep)
redis.register_function('ep1_save_account', save)
