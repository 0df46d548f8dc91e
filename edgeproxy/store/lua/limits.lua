--
-- What every API of the gateway shares, and so every library that needs it begins with: the store's clock, the limiter of
-- client IPs, and the daily budget of points (`dynamic/README.md`, *Limits*).

local WINDOW = 1000  -- ms that the limiter looks back
local DAY = 86400000
local UNPACK = 2000  -- values for one command; Lua's stack bounds it

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
  return moments, moments[1] == tostring(second)
end

-- `first` is the place in `keys` of the first of the limiter's three.
function Limiter.read(keys, first, now, ips)
  local second, ms = math.floor(now / 1000), now % 1000
  local self = setmetatable({
    second = second, ms = ms, stamp = string.char(math.floor(ms / 256), ms % 256),
    key = keys[first + second % 3],
    accepted = {},  -- ip → its moments of this second, to be written
  }, Limiter)
  self.this, self.held = read_second(self.key, second, ips)
  self.before, self.held_before = read_second(keys[first + (second - 1) % 3], second - 1, ips)
  return self
end

-- Takes a place in the window, of `limit` places, of the `i`th of the IPs: true and the places left, or false and the ms
-- until there is one. Moments are whole ms, so those exactly WINDOW apart may be a little less: they count as in one window.
function Limiter:take(i, ip, limit)
  local this = self.accepted[ip] or self.held and self.this[i + 1] or ''
  local before = self.held_before and self.before[i + 1] or ''
  local first = #before + 1
  for at = 1, #before, 2 do
    if before:byte(at) * 256 + before:byte(at + 1) >= self.ms then
      first = at
      break
    end
  end
  local used = (#before - first + 1) / 2 + #this / 2
  if used >= limit then
    local leaving = used - limit + 1
    local old = (#before - first + 1) / 2
    local moments, at = before, first + 2 * (leaving - 1)
    local second = -1000
    if leaving > old then
      moments, at, second = this, 2 * (leaving - old - 1) + 1, 0
    end
    return false, second + moments:byte(at) * 256 + moments:byte(at + 1) + WINDOW + 1 - self.ms
  end
  self.accepted[ip] = this .. self.stamp
  return true, limit - used - 1
end

function Limiter:write()
  local values = {}
  for ip, moments in pairs(self.accepted) do
    values[#values + 1] = ip
    values[#values + 1] = moments
  end
  if #values == 0 then return end
  if not self.held then
    redis.call('DEL', self.key)
    redis.call('HSET', self.key, '@', self.second)
    redis.call('PEXPIRE', self.key, 3 * WINDOW)
  end
  in_chunks('HSET', self.key, values, 2)
end

-- Points ------------------------------------------------------------------------------------------------------------
-- A hash: `day` (its midnight), the points `spent` on it, until when the stream of visits need not be told again how long
-- to live (`visits`), and when, to the second, it was last written (`at`): a clock that is behind that has gone back.

local WENT_BACK = 2000  -- ms; what replicas' clocks differ by is less

local Points = {}
Points.__index = Points

function Points.read(key, now, account)
  local today
  for i, midnight in ipairs(account.days) do
    if midnight <= now then today = i end
  end
  if not today or not account.days[today + 1] then return nil end
  local held = redis.call('HMGET', key, 'day', 'spent', 'visits', 'at')
  local self = setmetatable({
    key = key, now = now, cost = account.cost, budget = account.budget,
    day = account.days[today], day_end = account.days[today + 1], spent = 0, before = 0,
    visits = tonumber(held[3] or 0), visits_told = false,
    kept = false,  -- the key is this day's, and has its TTL
    at = tonumber(held[4] or 0), back = false,  -- by how many ms the clock went back, if it did
  }, Points)
  if self.at > now + WENT_BACK then self.back, self.visits = self.at - now, 0 end
  -- A clock that went back over midnight, or a time zone moved west, does not give the day's budget a second time.
  local day = tonumber(held[1] or nil)
  if day and day >= self.day then
    self.spent = tonumber(held[2])
    self.before = self.spent
    if day <= now + DAY then self.day, self.kept = day, true end  -- a day further ahead was a wrong clock's: it is today
  end
  return self
end

function Points:cover()
  return self.spent + self.cost <= self.budget
end

function Points:spend()
  self.spent = self.spent + self.cost
end

-- Takes back what was spent on a request that is to be asked again.
function Points:spare()
  self.spent = self.spent - self.cost
end

-- Adds an entry to the stream of visits. It lives a tenth longer than it must, so that not every entry need tell it to;
-- one that is gone before its time (NOMKSTREAM) is told at once.
function Points:add_visits(stream, kept, entry)
  local oldest = math.max(0, self.now - kept)
  if self.now < self.visits
    and redis.call('XADD', stream, 'NOMKSTREAM', 'MINID', '~', oldest, '*', 'visits', entry) then
    return
  end
  redis.call('XADD', stream, 'MINID', '~', oldest, '*', 'visits', entry)
  redis.call('PEXPIRE', stream, math.ceil(kept * 1.1))
  self.visits, self.visits_told = self.now + math.floor(kept * 0.1), true
end

function Points:write()
  if self.spent == self.before and not self.visits_told and not self.back then return end
  if self.kept and not self.visits_told and not self.back and self.now < self.at + WINDOW then
    redis.call('HSET', self.key, 'spent', self.spent)
  else
    redis.call('HSET', self.key, 'day', self.day, 'spent', self.spent, 'visits', self.visits,
      'at', self.back and self.now or math.max(self.now, self.at))
    redis.call('PEXPIRE', self.key, self.day_end - self.now + DAY)
  end
end
