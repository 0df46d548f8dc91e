--
-- How often a pool had no free number for a number on page, of late.
--
-- A hash: pool → text, four numbers for each five minutes in which that happened, all with blanks between: which five minutes
-- of the epoch, how often the number on page stayed (ORIGINAL), was shown the pool's shared number (SHARED), and got one whose
-- lease, or cooldown, ended early for it (RECYCLED). What is older than an hour goes when the pool is written again, and the
-- key goes when nothing was written for as long.

local ORIGINAL, SHARED, RECYCLED = 1, 2, 3

local Overflow = {SLOT = 300000, SLOTS = 13, WIDTH = 4}  -- the slot that now is in, and twelve whole ones before

local function read(text)
  local numbers = {}
  for number in (text or ''):gmatch('%d+') do numbers[#numbers + 1] = tonumber(number) end
  return numbers
end

-- Adds a batch's `counts` (as ORIGINAL, SHARED and RECYCLED tell) to those of a pool.
function Overflow.add(key, pool, counts, now)
  local slot, width = math.floor(now / Overflow.SLOT), Overflow.WIDTH
  local before, kept = read(redis.call('HGET', key, pool)), {}
  local sums = {slot, counts[ORIGINAL], counts[SHARED], counts[RECYCLED]}
  for at = 1, #before, width do
    if before[at] == slot then
      for i = 2, width do sums[i] = sums[i] + before[at + i - 1] end
    elseif before[at] > slot - Overflow.SLOTS and before[at] < slot then  -- none of a future that a clock once told
      for i = 0, width - 1 do kept[#kept + 1] = before[at + i] end
    end
  end
  for i = 1, width do kept[#kept + 1] = sums[i] end
  redis.call('HSET', key, pool, table.concat(kept, ' '))
  redis.call('PEXPIRE', key, Overflow.SLOT * Overflow.SLOTS)
end

-- The counts of the last hour, to five minutes more, of what `add` wrote; false is nothing.
function Overflow.sums(text, now)
  local slot, sums = math.floor(now / Overflow.SLOT), {0, 0, 0}
  local counts = read(text)
  for at = 1, #counts, Overflow.WIDTH do
    if counts[at] > slot - Overflow.SLOTS and counts[at] <= slot then
      for i = 1, 3 do sums[i] = sums[i] + counts[at + i] end
    end
  end
  return sums
end
