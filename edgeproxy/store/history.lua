--
-- Lease history: which session held a number, from when to when, and in the place of which number on page (CONTRACT §5).
--
-- A sorted set, all scores 0. A member is `number NUL begin NUL end NUL session NUL page`, begin and end in 13 digits, epoch
-- ms; the end is empty until the lease is put back, and stands in the pool's `leased` as long. A number's leases follow one
-- another, so the one that held it at a moment is found by its place. Entries go when the lease has been over for long
-- enough: each write looks at two anywhere, and takes away those of the number that ended no later. Account files see to it
-- that leases are kept longer than any can live, so the whole key can go when nothing has been written for that long.

local NUL = '\0'
local LOOKED_AT = 2  -- entries, in a write

local function moment_text(ms) return string.format('%013.0f', ms) end

local History = {}
History.__index = History

function History.of(key, kept)
  return setmetatable({
    key = key, kept = kept,
    add = {},   -- members to be added, and their scores before them
    live = {},  -- number → place in `add` of its lease that was begun by this call
    ends = {},  -- number → when its lease that was begun before ended
  }, History)
end

function History:begin(number, session, page, at)
  local place = #self.add + 1
  self.add[place] = 0
  self.add[place + 1] = table.concat({number, moment_text(at), '', session, page}, NUL)
  self.live[number] = place
end

local function ended(member, at)
  local number, begin, session, page = member:match('^([^%z]*)%z([^%z]*)%z%z([^%z]*)%z(.*)$')
  return number and table.concat({number, begin, moment_text(at), session, page}, NUL)
end

function History:finish(number, at)
  local place = self.live[number]
  if place then
    self.add[place + 1], self.live[number] = ended(self.add[place + 1], at), nil
  elseif not self.ends[number] then
    self.ends[number] = at
  end
end

function History:trim(now)
  local count = redis.call('ZCARD', self.key)
  for look = 1, math.min(LOOKED_AT, count) do
    local rank = tonumber(redis.sha1hex(now .. ':' .. look):sub(1, 8), 16) % count
    local found = redis.call('ZRANGE', self.key, rank, rank)[1]
    local number, ends = (found or ''):match('^([^%z]*)%z[^%z]*%z([^%z]*)')
    if number and ends ~= '' and tonumber(ends) < now - self.kept then
      redis.call('ZREMRANGEBYLEX', self.key, '[' .. number .. NUL, '[' .. found)  -- those before it ended before it
    end
  end
end

function History:write(now)
  local remove, add = {}, self.add
  for number, at in pairs(self.ends) do
    local last = redis.call('ZREVRANGEBYLEX', self.key, '(' .. number .. '\1', '[' .. number .. NUL, 'LIMIT', 0, 1)[1]
    local member = last and ended(last, at)
    if member then
      remove[#remove + 1] = last
      add[#add + 1] = 0
      add[#add + 1] = member
    end
  end
  if #add == 0 then return end
  in_chunks('ZREM', self.key, remove, 1)
  in_chunks('ZADD', self.key, add, 2)
  self:trim(now)
  redis.call('PEXPIRE', self.key, self.kept)
end
