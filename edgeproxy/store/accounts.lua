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

-- ep1_save_account: replaces an account's configuration and moves its numbers between pools and the free numbers that
-- are in none, in one step. A number that leaves a pool ends its lease, and keeps the cooldown it has wherever it goes.
--
-- KEYS  account, numbers, free, history, then three a pool (free, leased, granted)
-- ARGV  [1] now_ms: epoch ms; 0 is the store's own time
--       [2] the account's name
--       [3] the version that the caller read ("" where there was no account)
--       [4] the configuration (JSON)
--       [5] JSON [[pool, [number that leaves it, …], [number that enters it, …], its cooldown in ms], …], as in KEYS
--       [6] JSON [[number that leaves the free ones, …], [number that enters them, …]]
--       [7] leases_kept: ms
-- Reply: the account's version, or nil, and nothing written, where another writer was faster: read again
local function save(keys, args)
  local now = clock(args[1])
  local version = redis.call('HGET', keys[1], 'version') or ''
  if version ~= args[3] then return false end
  local pools, loose = cjson.decode(args[5]), cjson.decode(args[6])
  for _, number in ipairs(loose[1]) do
    if redis.call('HGET', keys[2], number) ~= 'free' then return false end  -- a source took it meanwhile
  end
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
  for i, pool in ipairs(pools) do
    local free, states = {}, {}
    for _, number in ipairs(pool[3]) do
      free[#free + 1] = string.format('%.0f', ready[number] or 0)
      free[#free + 1] = number
      states[#states + 1] = number
      states[#states + 1] = 'pool:' .. pool[1]
    end
    in_chunks('ZADD', keys[3 * i + 2], free, 2)
    in_chunks('HSET', keys[2], states, 2)
  end
  local free, states = {}, {}
  for _, number in ipairs(loose[2]) do
    free[#free + 1] = string.format('%.0f', ready[number] or 0)
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

redis.register_function('ep1_claim', claim)
redis.register_function('ep1_disclaim', disclaim)
redis.register_function('ep1_save_account', save)
