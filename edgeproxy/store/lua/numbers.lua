--
-- Static numbers of an account (`numbers/README.md`): `static` in the inventory while they are in use, and then with a
-- record: a JSON object of displayOptions, redirectOptions, poolName, those that have been set.
--
-- Replies, JSON: {"points_left", "day_left_ms", …}, or the same with "refused": why, which has changed and spent nothing:
--   points      the budget is spent
--   missing     the number is none of the account's
--   status      the number is in another state than that needs

local function reply(points, more)
  more = more or {}
  more.points_left = math.max(0, points.budget - points.spent)
  more.day_left_ms = points.day_end - points.now
  return cjson.encode(more)
end

local function read_points(key, now, settings)
  local points = Points.read(key, now, cjson.decode(settings))
  if not points then return nil, redis.error_reply('CLOCK the store and the gateway are days apart') end
  points.back = false  -- that is told to a visitor's request
  if not points:cover() then return nil, reply(points, {refused = 'points'}) end
  return points
end

local NEEDS = {create = 'free', update = 'static', delete = 'static'}

-- ep1_change_number: creates (puts a free number to use), updates (sets the parts that are sent, keeps the others) or
-- deletes (makes it free).
--
-- KEYS  statics, numbers, free, points
-- ARGV  [1] now_ms: epoch ms; 0 is the store's own time, [2] points, JSON: cost, budget, days (midnights, ascending)
--       [3] create, update or delete, [4] the number, [5] parts, JSON
local function change(keys, args)
  local now = clock(args[1])
  local points, refusal = read_points(keys[4], now, args[2])
  if not points then return refusal end
  local what, number = args[3], args[4]
  local state = redis.call('HGET', keys[2], number)
  if not state then return reply(points, {refused = 'missing'}) end
  if state ~= NEEDS[what] then return reply(points, {refused = 'status'}) end
  if what == 'create' and tonumber(redis.call('ZSCORE', keys[3], number) or now + 1) > now then
    return reply(points, {refused = 'status'})  -- it cools down after a lease
  end
  local record = cjson.decode(what == 'update' and redis.call('HGET', keys[1], number) or '{}')
  for part, value in pairs(cjson.decode(args[5])) do record[part] = value end

  if what == 'delete' then
    redis.call('HDEL', keys[1], number)
    redis.call('HSET', keys[2], number, 'free')
    redis.call('ZADD', keys[3], now, number)
  else
    redis.call('HSET', keys[1], number, cjson.encode(record))
    redis.call('HSET', keys[2], number, 'static')
    redis.call('ZREM', keys[3], number)
  end
  points:spend()
  points:write()
  return reply(points)
end

-- ep1_list_numbers. KEYS as above. ARGV [1] now_ms, [2] points as above, [3] numbers, JSON
-- Reply: with "records": the parts of each number (JSON texts, "{}" of a free one); missing comes with the "number"
local function list(keys, args)
  local points, refusal = read_points(keys[4], clock(args[1]), args[2])
  if not points then return refusal end
  local numbers = cjson.decode(args[3])
  local states = redis.call('HMGET', keys[2], unpack(numbers))
  local records = redis.call('HMGET', keys[1], unpack(numbers))
  for i, state in ipairs(states) do
    if state ~= 'free' and state ~= 'static' then
      return reply(points, {refused = 'missing', number = numbers[i]})
    end
    records[i] = records[i] or '{}'
  end
  points:spend()
  points:write()
  return reply(points, {records = records})
end

redis.register_function('ep1_change_number', change)
redis.register_function('ep1_list_numbers', list)
