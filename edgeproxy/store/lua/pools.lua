--
-- ep1_count_pools: how many numbers of each pool are free, leased, and cooling down, and how often it had none free. A lease
-- that has ended, and is not put back yet, counts as what it would be then.
--
-- KEYS  overflow, then two a pool: free, leased
-- ARGV  [1] now_ms: epoch ms; 0 is the store's own time; then for each pool: its name, its cooldown in ms
-- Reply, JSON: {"now", "pools": [[free, leased, cooling, original, shared, recycled], …]}; the last three of the last hour
local function count_pools(keys, args)
  local now, pools = clock(args[1]), {}
  for at = 2, #args, 2 do
    local free, leased, cooled = keys[at], keys[at + 1], now - tonumber(args[at + 1])
    local overflow = Overflow.sums(redis.call('HGET', keys[1], args[at]), now)
    pools[#pools + 1] = '[' .. table.concat({
      redis.call('ZCOUNT', free, '-inf', now) + redis.call('ZCOUNT', leased, '-inf', cooled),
      redis.call('ZCOUNT', leased, '(' .. now, '+inf'),
      redis.call('ZCOUNT', free, '(' .. now, '+inf') + redis.call('ZCOUNT', leased, '(' .. cooled, now),
      overflow[ORIGINAL], overflow[SHARED], overflow[RECYCLED],
    }, ',') .. ']'
  end
  return '{"now":' .. now .. ',"pools":[' .. table.concat(pools, ',') .. ']}'
end

redis.register_function{function_name = 'ep1_count_pools', callback = count_pools, flags = {'no-writes'}}
