--
-- Customers, sources and voicemail greetings of an account (`partner/README.md`), over its one number inventory.
--
-- A record is a flat JSON object of texts and nulls; moments in it are epoch ms, as text. Every function reads and
-- decides first and writes last: one that refuses has changed nothing but statuses that time has changed.
--
-- Replies of functions that change a record, JSON: {"record": {…}}, or {"refused": why} with one of
--   missing     there is no such record
--   customer    there is no such customer
--   greeting    the customer has no such greeting
--   in use      sources, or a greeting's sources, still need it
--   many        a customer has no more greetings than that
--   full        the account has as many records, or as much sound, as it may have
--   number      the number named is not in the inventory
--   taken       the number named is not free
--   no number   no number is free
--   status      the source's status does not allow it
--   expire      the expiry is not later than now, the source's start, or (extend) the expiry that stands
--   endless     the source has no expiry that could be extended

local GREETINGS_MOST = 100  -- of one customer
local SETTLE_MOST = 100     -- sources whose status changes in one call
local NUL = '\0'

local function whole(number) return string.format('%.0f', number) end

local function given(value)
  if value == nil or value == cjson.null or value == '' then return nil end
  return value
end

local function moment(value) return tonumber(given(value) or nil) end

local function refused(why) return cjson.encode({refused = why}) end

local function read(key, id)
  local packed = redis.call('HGET', key, id)
  return packed and cjson.decode(packed) or nil
end

-- The index ---------------------------------------------------------------------------------------------------------

local INDEXED = {
  customers = {'custnr'},
  sources = {'customer_id', 'destnr', 'campaign_id', 'status', 'class', 'vm_greeting_id', 'phonenr'},
  greetings = {'customer_id'},
}

local function pad(id) return string.format('%012d', tonumber(id)) end

local function member(field, value, id) return field .. NUL .. value .. NUL .. pad(id) end

-- Writes a record (`after`; nil: there is none any more) in the place of another (`before`; nil: there was none).
local function put(resource, key, index, id, before, after)
  if after then redis.call('HSET', key, id, cjson.encode(after)) else redis.call('HDEL', key, id) end
  if not before then redis.call('ZADD', index, 0, member('', '', id)) end
  if not after then redis.call('ZREM', index, member('', '', id)) end
  for _, field in ipairs(INDEXED[resource]) do
    local old, new = before and given(before[field]), after and given(after[field])
    if old ~= new then
      if old then redis.call('ZREM', index, member(field, old, id)) end
      if new then redis.call('ZADD', index, 0, member(field, new, id)) end
    end
  end
end

-- Where the members of a field's value stand in an index: the first's rank, and how many there are.
local function range(index, field, value)
  local first = field .. NUL .. value .. NUL
  local past = '(' .. field .. NUL .. value .. '\1'
  local rank = redis.call('ZLEXCOUNT', index, '-', '(' .. first)
  return rank, redis.call('ZLEXCOUNT', index, '[' .. first, past)
end

local function id_of(found) return whole(tonumber(found:sub(-12))) end

local function all_of(index, field, value)
  local rank, count = range(index, field, value)
  local ids = count == 0 and {} or redis.call('ZRANGE', index, rank, rank + count - 1)
  for i, found in ipairs(ids) do ids[i] = id_of(found) end
  return ids
end

-- Customers ---------------------------------------------------------------------------------------------------------

-- The id for a record that is made: the next, or the one that is `wanted`, and later ones go on from it.
local function next_id(ids, resource, wanted)
  if wanted == '' then return whole(redis.call('HINCRBY', ids, resource, 1)) end
  if tonumber(redis.call('HGET', ids, resource) or 0) < tonumber(wanted) then
    redis.call('HSET', ids, resource, wanted)
  end
  return wanted
end

-- ep1_create_customer. KEYS customers, index, ids.
-- ARGV [1] the record, JSON, [2] its id, or "" for the next, [3] how many the account may have
local function create_customer(keys, args)
  if redis.call('HLEN', keys[1]) >= tonumber(args[3]) then return refused('full') end
  local record = cjson.decode(args[1])
  if args[2] ~= '' and redis.call('HEXISTS', keys[1], args[2]) == 1 then return refused('taken') end
  record.customer_id = next_id(keys[3], 'customers', args[2])
  put('customers', keys[1], keys[2], record.customer_id, nil, record)
  return cjson.encode({record = record})
end

local function changed(before, changes)
  local after = {}
  for field, value in pairs(before) do after[field] = value end
  for field, value in pairs(cjson.decode(changes)) do after[field] = value end
  return after
end

-- ep1_update_customer. KEYS customers, index. ARGV [1] id, [2] the fields to change, JSON
local function update_customer(keys, args)
  local before = read(keys[1], args[1])
  if not before then return refused('missing') end
  local after = changed(before, args[2])
  put('customers', keys[1], keys[2], args[1], before, after)
  return cjson.encode({record = after})
end

local SOUND = 'sound_bytes'  -- the field of `ids` that counts what an account's sounds take

local function sound_fits(ids, more, most)
  return tonumber(redis.call('HGET', ids, SOUND) or 0) + more <= tonumber(most)
end

local function drop_sound(sounds, ids, id)
  redis.call('HINCRBY', ids, SOUND, -redis.call('HSTRLEN', sounds, id))
  redis.call('HDEL', sounds, id)
end

local function has(index, field, value, id)
  return redis.call('ZSCORE', index, member(field, value, id)) ~= false
end

local function is_over(sources_index, id)
  return has(sources_index, 'status', 'quarantined', id) or has(sources_index, 'status', 'archived', id)
end

-- ep1_delete_customer, with its greetings; one whose sources are not all quarantined or archived stays.
--
-- KEYS  customers, index, the sources' index, greetings, index, sounds, ids
-- ARGV  [1] id
local function delete_customer(keys, args)
  local before = read(keys[1], args[1])
  if not before then return refused('missing') end
  for _, id in ipairs(all_of(keys[3], 'customer_id', args[1])) do
    if not is_over(keys[3], id) then return refused('in use') end
  end
  for _, id in ipairs(all_of(keys[5], 'customer_id', args[1])) do
    put('greetings', keys[4], keys[5], id, read(keys[4], id), nil)
    drop_sound(keys[6], keys[7], id)
  end
  put('customers', keys[1], keys[2], args[1], before, nil)
  return cjson.encode({record = before})
end

-- Sources -----------------------------------------------------------------------------------------------------------
-- A source's status follows from its record and the time:
--   reserved → upcoming → active, or extended → quarantined → archived
-- While it is not archived its number is `source:ID` in the inventory, or `quarantined:ID`; then the number is free.

local Sources = {}
Sources.__index = Sources

-- KEYS of every function that changes sources: sources, index, due, destinations, numbers, free
function Sources.of(keys, now, quarantine)
  return setmetatable({
    records = keys[1], index = keys[2], due = keys[3], destinations = keys[4], numbers = keys[5], free = keys[6],
    now = now, quarantine = quarantine,
  }, Sources)
end

local SERVES = {upcoming = true, active = true, extended = true}

-- Sets the status that a record has at `now`.
function Sources:advance(record)
  local expire = moment(record.expire)
  if record.status ~= 'quarantined' and record.status ~= 'archived' then
    if expire and expire <= self.now then
      record.status, record.rests_until = 'quarantined', whole(expire + self.quarantine)
    elseif record.reserve_number == '1' then
      record.status = 'reserved'
    elseif moment(record.timestamp) > self.now then
      record.status = 'upcoming'
    else
      record.status = record.extended == '1' and 'extended' or 'active'
    end
  end
  if record.status == 'quarantined' and moment(record.rests_until) <= self.now then record.status = 'archived' end
end

local function next_change(record)
  local expire = moment(record.expire)
  if record.status == 'quarantined' then return moment(record.rests_until) end
  if record.status == 'archived' then return nil end
  if record.status == 'upcoming' then return math.min(moment(record.timestamp), expire or math.huge) end
  return expire
end

local function destination(record)
  if not record or not SERVES[record.status] or not given(record.destnr) then return nil end
  return table.concat({record.destnr, pad(record.source_id), record.phonenr, record.timestamp,
    given(record.expire) or ''}, NUL)
end

local function state_of(record)
  if record.status == 'archived' then return 'free' end
  return (record.status == 'quarantined' and 'quarantined:' or 'source:') .. record.source_id
end

function Sources:put(before, after)
  local id = after.source_id
  put('sources', self.records, self.index, id, before, after)
  local old, new = destination(before), destination(after)
  if old ~= new then
    if old then redis.call('ZREM', self.destinations, old) end
    if new then redis.call('ZADD', self.destinations, 0, new) end
  end
  local due = next_change(after)
  if due then redis.call('ZADD', self.due, whole(due), id) else redis.call('ZREM', self.due, id) end
  if not before or before.status ~= after.status then
    redis.call('HSET', self.numbers, after.phonenr, state_of(after))
    if after.status == 'archived' then redis.call('ZADD', self.free, after.rests_until, after.phonenr) end
  end
end

-- What becomes of a source by now: its record before and after. Fails if the record cannot be read.
local function settled(sources, id)
  local before = read(sources.records, id)
  local after = changed(before, '{}')
  sources:advance(after)
  next_change(after)
  destination(after)
  return before, after
end

-- Brings sources to the status they have at `now`, at most SETTLE_MOST of them: how many it were. One whose record cannot
-- be read stays as it is, with its number: it must not stop the others, nor calls.
function Sources:settle()
  local due = redis.call('ZRANGEBYSCORE', self.due, '-inf', whole(self.now), 'LIMIT', 0, SETTLE_MOST)
  for _, id in ipairs(due) do
    local readable, before, after = pcall(settled, self, id)
    if readable then
      self:put(before, after)
    else
      redis.call('ZREM', self.due, id)
      redis.log(redis.LOG_WARNING, 'edgeproxy: the source ' .. id .. ' of ' .. self.records .. ' cannot be read')
    end
  end
  return #due
end

-- ep1_settle_sources. KEYS as above. ARGV [1] now_ms, [2] quarantine in ms. 
-- Reply, JSON: {"settled": how many changed}; 0: none is left
local function settle_sources(keys, args)
  return cjson.encode({settled = Sources.of(keys, clock(args[1]), tonumber(args[2])):settle()})
end

-- What a clock that was ahead has made of a source: nil, if nothing, else the record as it should be. One that was deleted
-- then was deleted now; one that expired, or was archived, before its time goes on.
function Sources:mended(before)
  local expire = moment(before.expire)
  local archived = before.status == 'archived'
  if archived then
    local ready = tonumber(redis.call('ZSCORE', self.free, before.phonenr) or nil)
    if moment(before.rests_until) <= self.now or not ready or ready <= self.now then return nil end
  elseif not expire or expire <= self.now then
    return nil
  end
  local after = changed(before, '{}')
  after.status = 'quarantined'
  if expire and expire > self.now then
    after.rests_until = cjson.null
    after.status = 'active'
    if after.expire == after.modified then after.expire = whole(self.now) end
  end
  self:advance(after)
  return after
end

-- ep1_mend_sources: looks at some sources that are over, and brings those that are so too early, or for too long, to the
-- present.
--
-- KEYS  as above. ARGV  [1] now_ms, [2] quarantine in ms, [3] quarantined or archived, [4] how many of these to leave out
--       [5] "count", to change nothing
-- Reply, JSON: {"found": how many, "looked": at how many}; 0: none is left
local function mend_sources(keys, args)
  local sources = Sources.of(keys, clock(args[1]), tonumber(args[2]))
  local rank, count = range(keys[2], 'status', args[3])
  local first = tonumber(args[4])
  local last = math.min(first + SETTLE_MOST, count) - 1
  local members = first <= last and redis.call('ZRANGE', keys[2], rank + first, rank + last) or {}
  local found = 0
  for _, member in ipairs(members) do
    local before = read(keys[1], id_of(member))
    local after = sources:mended(before)
    if after then
      found = found + 1
      if args[5] ~= 'count' then
        if before.status == 'archived' then redis.call('ZREM', keys[6], before.phonenr) end
        sources:put(before, after)
      end
    end
  end
  return cjson.encode({found = found, looked = #members})
end

local function greeting_fits(greetings, record)
  local id = given(record.vm_greeting_id)
  local greeting = id and read(greetings, id)
  return not id or (greeting and greeting.customer_id == record.customer_id)
end

-- ep1_create_source: makes a source of a free number.
--
-- KEYS  the six above, customers, greetings, ids
-- ARGV  [1] now_ms, [2] quarantine in ms, [3] the record, JSON; "timestamp" null is now
--       [4] the number to take, or "" for the one that has been free the longest, [5] the source's id, or "" for the next
--       [6] how many sources the account may have, archived ones too
local function create_source(keys, args)
  local now = clock(args[1])
  local sources = Sources.of(keys, now, tonumber(args[2]))
  local record, number = cjson.decode(args[3]), args[4]
  sources:settle()
  if redis.call('HLEN', keys[1]) >= tonumber(args[6]) then return refused('full') end
  if redis.call('HEXISTS', keys[7], record.customer_id) == 0 then return refused('customer') end
  if not greeting_fits(keys[8], record) then return refused('greeting') end
  if args[5] ~= '' and redis.call('HEXISTS', keys[1], args[5]) == 1 then return refused('taken') end
  if not given(record.timestamp) then record.timestamp = whole(now) end
  if given(record.expire) and moment(record.expire) <= math.max(now, moment(record.timestamp)) then
    return refused('expire')
  end
  if number == '' then
    number = redis.call('ZRANGEBYSCORE', keys[6], '-inf', whole(now), 'LIMIT', 0, 1)[1]
    if not number then return refused('no number') end
  else
    local state = redis.call('HGET', keys[5], number)
    if not state then return refused('number') end
    local since = tonumber(redis.call('ZSCORE', keys[6], number) or nil)
    if state ~= 'free' or not since or since > now then return refused('taken') end
  end
  redis.call('ZREM', keys[6], number)
  record.source_id = next_id(keys[9], 'sources', args[5])
  record.phonenr = number
  record.created, record.modified = whole(now), whole(now)
  sources:advance(record)
  sources:put(nil, record)
  return cjson.encode({record = record})
end

local CAN = {
  update = {reserved = true, upcoming = true, active = true, extended = true},
  delete = {reserved = true, upcoming = true, active = true, extended = true},
  extend = {active = true, extended = true},
  reactivate = {quarantined = true},
}

-- ep1_change_source: updates, extends, reactivates or deletes a source; deleted, it is quarantined.
--
-- KEYS  the six above, greetings, customers
-- ARGV  [1] now_ms, [2] quarantine in ms, [3] id, [4] update, extend, reactivate or delete, [5] fields to change, JSON
local function change_source(keys, args)
  local now = clock(args[1])
  local sources = Sources.of(keys, now, tonumber(args[2]))
  local what = args[4]
  sources:settle()
  local before = read(keys[1], args[3])
  if not before then return refused('missing') end
  local sent, after = cjson.decode(args[5]), changed(before, '{}')
  sources:advance(after)
  if not CAN[what][after.status] then return refused('status') end
  after = changed(after, args[5])
  if redis.call('HEXISTS', keys[8], after.customer_id) == 0 then return refused('customer') end
  if not greeting_fits(keys[7], after) then
    if what ~= 'reactivate' then return refused('greeting') end
    after.vm_greeting_id = cjson.null  -- it was deleted while the source did not use it
  end
  local expire = moment(after.expire)
  if what == 'delete' then
    after.expire = whole(now)
  elseif what == 'reactivate' then
    if sent.expire == nil then after.expire, expire = cjson.null, nil end
    after.status, after.extended, after.reserve_number = 'active', '0', '0'
    after.rests_until = cjson.null
  elseif what == 'extend' then
    local stands = moment(before.expire)
    if not stands then return refused('endless') end
    if not expire or expire <= stands then return refused('expire') end
    after.extended = '1'
  end
  if not given(after.timestamp) then after.timestamp = whole(now) end
  if what ~= 'delete' and expire and expire <= math.max(now, moment(after.timestamp)) then return refused('expire') end
  after.modified = whole(now)
  sources:advance(after)
  sources:put(before, after)
  return cjson.encode({record = after})
end

-- Voicemail greetings -----------------------------------------------------------------------------------------------

-- ep1_create_greeting. KEYS greetings, index, sounds, ids, customers.
-- ARGV [1] now_ms, [2] the record, JSON, [3] its sound, [4] its id, or "" for the next
--      [5] how many bytes of sound, as they are kept, the account may have
local function create_greeting(keys, args)
  local record = cjson.decode(args[2])
  if redis.call('HEXISTS', keys[5], record.customer_id) == 0 then return refused('customer') end
  local _, count = range(keys[2], 'customer_id', record.customer_id)
  if count >= GREETINGS_MOST then return refused('many') end
  if not sound_fits(keys[4], #args[3], args[5]) then return refused('full') end
  if args[4] ~= '' and redis.call('HEXISTS', keys[1], args[4]) == 1 then return refused('taken') end
  record.vm_greeting_id = next_id(keys[4], 'greetings', args[4])
  record.timestamp = whole(clock(args[1]))
  put('greetings', keys[1], keys[2], record.vm_greeting_id, nil, record)
  redis.call('HSET', keys[3], record.vm_greeting_id, args[3])
  redis.call('HINCRBY', keys[4], SOUND, #args[3])
  return cjson.encode({record = record})
end

-- A greeting is found only under its own customer.
local function greeting_of(key, id, customer_id)
  local record = read(key, id)
  return record and record.customer_id == customer_id and record or nil
end

-- ep1_update_greeting. KEYS greetings, index, sounds, ids.
-- ARGV [1] now_ms, [2] id, [3] customer's id, [4] fields to change, JSON, [5] bytes of sound that the account may have
--      [6] its sound, if that changes
local function update_greeting(keys, args)
  local before = greeting_of(keys[1], args[2], args[3])
  if not before then return refused('missing') end
  local more = args[6] and #args[6] - redis.call('HSTRLEN', keys[3], args[2]) or 0
  if more > 0 and not sound_fits(keys[4], more, args[5]) then return refused('full') end
  local after = changed(before, args[4])
  after.timestamp = whole(clock(args[1]))
  put('greetings', keys[1], keys[2], args[2], before, after)
  if args[6] then
    redis.call('HSET', keys[3], args[2], args[6])
    redis.call('HINCRBY', keys[4], SOUND, more)
  end
  return cjson.encode({record = after})
end

-- ep1_delete_greeting; one that a source uses stays. KEYS greetings, index, sounds, the sources' index, ids.
-- ARGV [1] id, [2] customer's id
local function delete_greeting(keys, args)
  local before = greeting_of(keys[1], args[1], args[2])
  if not before then return refused('missing') end
  for _, id in ipairs(all_of(keys[4], 'vm_greeting_id', args[1])) do
    if not is_over(keys[4], id) then return refused('in use') end
  end
  put('greetings', keys[1], keys[2], args[1], before, nil)
  drop_sound(keys[3], keys[5], args[1])
  return cjson.encode({record = before})
end

redis.register_function('ep1_create_customer', create_customer)
redis.register_function('ep1_update_customer', update_customer)
redis.register_function('ep1_delete_customer', delete_customer)
redis.register_function('ep1_settle_sources', settle_sources)
redis.register_function('ep1_mend_sources', mend_sources)
redis.register_function('ep1_create_source', create_source)
redis.register_function('ep1_change_source', change_source)
redis.register_function('ep1_create_greeting', create_greeting)
redis.register_function('ep1_update_greeting', update_greeting)
redis.register_function('ep1_delete_greeting', delete_greeting)
