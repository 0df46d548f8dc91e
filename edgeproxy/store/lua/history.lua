--
-- Lease history: which session held a number, from when to when, and in the place of which number on page
-- (`calls/README.md`, *Matches*).
--
-- A sorted set, all scores 0. A member is `number NUL begin NUL end NUL session NUL page`, begin and end in 13 digits, epoch
-- ms; the end is empty until the lease is put back, and stands in the pool's `leased` as long. A number's leases follow one
-- another, so the one that held it at a moment is found by its place. A lease of no length, which `recycle` ended in the ms
-- in which it began, has to stand below the one that then began: its begin is written as the ms before, and `.9`. Entries
-- go when the lease has been over for long enough: each write looks at two anywhere, and takes away those of the number
-- that ended no later. Account files see to it that leases are kept longer than any can live, so the whole key can go when
-- nothing has been written for that long.
--
-- Where the clock went back, or an earlier release wrote leases of no length, entries stand in another order than the
-- leases had: whoever looks for one goes by its session too, and looks further down.

local NUL = '\0'
local LOOKED_AT = 2   -- entries, in a write
local PIECE = 64      -- entries read at once, where the first is not the one that is looked for,
local PIECES = 64     -- so many times

local function moment_text(ms) return string.format('%013.0f', ms) end

local function entry(number, begin, ends, session, page)
  local begin_text = begin < ends and moment_text(begin) or moment_text(ends - 1) .. '.9'
  return table.concat({number, begin_text, moment_text(ends), session, page}, NUL)
end

-- An entry's begin, end (nil: it is not put back), session and number on page.
local function read_entry(member)
  local begin, ends, session, page = member:match('^[^%z]*%z([^%z]*)%z([^%z]*)%z([^%z]*)%z(.*)$')
  return math.ceil(tonumber(begin)), tonumber(ends), session, page
end

local History = {}
History.__index = History

function History.of(key, kept)
  return setmetatable({
    key = key, kept = kept,
    add = {},   -- members to be added, and their scores before them
    live = {},  -- number → place in `add` of its lease that was begun by this call
    ends = {},  -- of leases that were begun before and end: number, session, when; one after another
  }, History)
end

-- The session's lease of the number begins, at a moment that is given as text.
function History:begin(number, session, page, at)
  local place = #self.add + 1
  self.add[place] = 0
  self.add[place + 1] = table.concat({number, at, '', session, page}, NUL)
  self.live[number] = place
end

-- The session's lease of the number ended.
function History:finish(number, session, at)
  local place = self.live[number]
  if place then
    local begin, _, holder, page = read_entry(self.add[place + 1])
    if holder == session then
      self.add[place + 1], self.live[number] = entry(number, begin, at, session, page), nil
      return
    end
  end
  local ends = self.ends
  local last = #ends
  ends[last + 1], ends[last + 2], ends[last + 3] = number, session, at
end

-- The entry of the session's lease of the number that is not put back.
function History:unended(number, session)
  local past, from, count = '(' .. number .. '\1', '[' .. number .. NUL, 1
  for _ = 0, PIECES do
    local found = redis.call('ZREVRANGEBYLEX', self.key, past, from, 'LIMIT', 0, count)
    for _, member in ipairs(found) do
      local _, ends, holder = read_entry(member)
      if not ends and holder == session then return member end
    end
    if #found < count then return nil end
    past, count = '(' .. found[#found], PIECE
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
  local remove, add, ends = {}, self.add, self.ends
  for at = 1, #ends, 3 do
    local number, session = ends[at], ends[at + 1]
    local member = self:unended(number, session)
    if member then
      local begin, _, _, page = read_entry(member)
      remove[#remove + 1] = member
      add[#add + 1] = 0
      add[#add + 1] = entry(number, begin, ends[at + 2], session, page)
    end
  end
  if #add == 0 then return end
  in_chunks('ZREM', self.key, remove, 1)
  in_chunks('ZADD', self.key, add, 2)
  self:trim(now)
  redis.call('PEXPIRE', self.key, self.kept)
end
