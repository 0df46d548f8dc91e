--
-- The limiter of client IPs by itself: for APIs that ask nothing else of the same server (`dynamic/README.md`, *Limits*).

-- ep1_admit: takes a place in the window of each client IP, in the order they came.
--
-- KEYS  three of the limiter
-- ARGV  [1] now_ms: epoch ms; 0 is the store's own time
--       [2] deadline_ms: epoch ms; a call that the store comes to later does nothing; 0 is no deadline
--       [3…] for each request: IP, requests per second
-- Reply, JSON: {"now", "results": [[true, places left] or [false, ms until there is one], …]}, or {"late": true, "now"}
local function admit(keys, args)
  local now, deadline = clock(args[1]), tonumber(args[2])
  if deadline > 0 and now > deadline then return '{"late":true,"now":' .. now .. '}' end
  local ips = {}
  for at = 3, #args, 2 do ips[#ips + 1] = args[at] end
  local limiter, results = Limiter.read(keys, 1, now, ips), {}
  for i, ip in ipairs(ips) do
    local passed, number = limiter:take(i, ip, tonumber(args[2 * i + 2]))
    results[i] = '[' .. tostring(passed) .. ',' .. number .. ']'
  end
  limiter:write()
  return '{"now":' .. now .. ',"results":[' .. table.concat(results, ',') .. ']}'
end

redis.register_function('ep1_admit', admit)
