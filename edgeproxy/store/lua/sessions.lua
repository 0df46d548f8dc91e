--
-- Records of sessions and visitors: what is known of a visit, and of a visitor's last numbers.
--
-- A page's visit comes in three parts (see layout.py): the browser's name, JSON text; its context, which is the network and the
-- custom dimensions, as members of a JSON object; the rest of the page, a JSON object that is not empty. Strings that are the
-- same are one in Lua, so contexts are compared at once.
--
-- A session's record is a flat array: END, PAGE, BEGUN, CONTEXT, EARLIER, LAST; then the number on page, its pool's name, the
-- tracking number, and since when, for each of its leases; one whose number it was then leased in another page's place has an
-- empty pool. It is kept for as long as the leases' history.
--   END      when the session ends, epoch ms
--   PAGE     the last page, less its browser and context; '' before there is one
--   BEGUN    when the first page was, epoch ms, as text; '' if that is not known
--   CONTEXT  the last page's
--   EARLIER  '' while there is one page; then msgpack: the first page, as PAGE, or false if it is not known; its context, or
--            false while those of all pages are the same; the custom dimensions of the pages between the two, JSON, or ''; ''
--            while all pages came from one network, else since when (as BEGUN), and marks of the networks that pages lately came
--            from, or MANY
--   LAST     when the last page was, epoch ms; 0 if that is not known
-- From BEGUN on these stand where the release before has a lease: it takes them for one of a page that no request shows, and
-- keeps them. Its own records, which lack them, are read as if they were not known.
--
-- A visitor's record has number on page, pool's name, tracking number, and since when for each lease, and after each the session
-- whose it was. Where the first of these is a mark of who somebody is (see who_of), the lease is the last that somebody like that
-- was granted; SEVERAL says that the visitor's id stands for several people.

local END, PAGE, BEGUN, CONTEXT, EARLIER, LAST = 1, 2, 3, 4, 5, 6
local FIRST_LEASE = 7    -- of a session's record
local LEASE = 4          -- values of a lease: number on page, pool's name, tracking number, since
local MOST_LEASES = 256  -- that a record remembers

local MOST_DIMENSIONS, MOST_BYTES = 50, 16384  -- of BETWEEN

local MANY = 'many'
local MOST_NETWORKS, AT_ONCE = 4, 600000  -- of one visitor, within so many ms: at home, at work, on the way, IPv4 and IPv6
local MOMENT, MARK = 13, 5                -- characters of NETWORKS: of its moment, of a mark

local WHO, SEVERAL = '\0', '\0several'
local MOST_WHO, WHO_WITHIN = 4, 3600000  -- of one visitor, within so many ms: browsers and networks
local SEVERAL_KEPT = 86400000  -- ms after which an id may be one person's again

local NO_BROWSER, NO_NETWORK = '""', '"requestIpAddress":"",'

-- The records of `names` that there are, by name.
local function load_records(names)
  local records = {}
  for first = 1, #names, UNPACK do
    local last = math.min(first + UNPACK - 1, #names)
    local found = redis.call('MGET', unpack(names, first, last))
    for i = first, last do
      local packed = found[i - first + 1]
      if packed then records[names[i]] = cmsgpack.unpack(packed) end
    end
  end
  return records
end

-- Where in a record the values for a number on page, or a mark, begin.
local function place_of(record, page, first, width)
  for at = first, #record, width do
    if record[at] == page then return at end
  end
end

-- Forgets the oldest of a record's leases, which stand from `first` on, beyond what it may remember. That an id is several
-- people's is not pushed out by any number of leases: strangers would be joined again.
local function bound(record, first, width)
  local count = (#record - first + 1) / width
  if count <= MOST_LEASES then return record end
  local begun = {}
  for at = first, #record, width do begun[#begun + 1] = {at, record[at] == SEVERAL and math.huge or record[at + 3]} end
  table.sort(begun, function(a, b)
    if a[2] ~= b[2] then return a[2] < b[2] end
    return a[1] < b[1]
  end)
  local kept = {unpack(record, 1, first - 1)}
  for i = count - MOST_LEASES + 1, count do
    for at = begun[i][1], begun[i][1] + width - 1 do kept[#kept + 1] = record[at] end
  end
  return kept
end

-- Sessions ----------------------------------------------------------------------------------------------------------

local function new_session(id, key)
  return {id = id, key = key, record = {0, '', '', '', '', 0}, granted = false}
end

local PLUS = ('+'):byte()

-- A record, in this release's form.
local function read_session(record)
  local begun, page = record[BEGUN], record[PAGE]
  if begun and begun:byte() ~= PLUS then return record end
  local read = {record[END], page, '', '', cmsgpack.pack({false, false, '', ''}), 0}
  if page ~= '' then
    local visit = cjson.decode(page)
    local dimensions = visit.parameters and next(visit.parameters) and cjson.encode(visit.parameters) or '{}'
    read[CONTEXT] = '"requestIpAddress":"' .. (visit.requestIpAddress or '') .. '","parameters":' .. dimensions
  end
  for at = 3, #record do read[#read + 1] = record[at] end
  return read
end

-- Puts the dimensions of a page that is about to be forgotten to those of the pages between the first and the last.
local function keep_dimensions(between, context)
  local kept, count = between ~= '' and cjson.decode(between) or {}, 0
  for _ in pairs(kept) do count = count + 1 end
  for name, value in pairs(cjson.decode('{' .. context .. '}').parameters) do
    if kept[name] == nil then count = count + 1 end
    if kept[name] ~= nil or count <= MOST_DIMENSIONS then kept[name] = value end
  end
  local json = count > 0 and cjson.encode(kept) or ''
  return #json <= MOST_BYTES and json or between
end

local function network_of(context) return context:match('^"requestIpAddress":"([^"]*)"') end
local function network_mark(network) return ',' .. redis.sha1hex(network):sub(1, MARK - 1) end

-- The networks that pages lately came from, where one came from another than the last one did.
local function see_network(seen, before, network, batch)
  if seen == MANY then return seen end
  local since, marks = seen:sub(1, MOMENT), seen:sub(MOMENT + 1)
  if seen == '' or batch.now - since > AT_ONCE then
    since, marks = batch:moment(), before ~= '' and network_mark(before) or ''
  end
  local mark = network_mark(network)
  if not marks:find(mark, 1, true) then marks = marks .. mark end
  return #marks > MOST_NETWORKS * MARK and MANY or since .. marks
end

-- What is kept of earlier pages, when one in another context comes.
local function change_context(earlier, before, context, batch)
  local first, first_context, between, networks = unpack(cmsgpack.unpack(earlier))
  if first and not first_context then
    first_context = before
  elseif before ~= '' then
    between = keep_dimensions(between, before)
  end
  local was, is = network_of(before) or '', network_of(context)
  if was ~= is and is ~= '' then networks = see_network(networks, was, is, batch) end
  return cmsgpack.pack({first, first_context, between, networks})
end

-- A visitor's next page, in a batch.
local function turn_page(record, page, context, batch)
  local last, before = record[PAGE], record[CONTEXT]
  record[PAGE], record[CONTEXT], record[LAST] = page, context, batch.now
  if last == '' then
    record[BEGUN] = batch:moment()
    return
  end
  local earlier = record[EARLIER]
  if earlier == '' then earlier = cmsgpack.pack({last, false, '', ''}) end
  if context ~= before then earlier = change_context(earlier, before, context, batch) end
  record[EARLIER] = earlier
end

-- What a record tells of the visit, JSON: {"last": the last page, "last_at", "first": the first page or null, "first_at",
-- "between": dimensions, "many_networks"}; moments are epoch ms, or null.
local function told(packed)
  if not packed then return 'null' end
  local record = read_session(cmsgpack.unpack(packed))
  local page, context = record[PAGE], record[CONTEXT]
  if page == '' then return 'null' end
  local first, first_context, between, networks = page, false, '', ''
  if record[EARLIER] ~= '' then first, first_context, between, networks = unpack(cmsgpack.unpack(record[EARLIER])) end
  local function whole(some_page, some_context)
    return '{' .. some_context .. (some_context ~= '' and ',' or '') .. some_page:sub(2)
  end
  return table.concat({
    '{"last":', whole(page, context), ',"last_at":', record[LAST] > 0 and moment_text(record[LAST]) or 'null',
    ',"first":', first and whole(first, first_context or context) or 'null',
    ',"first_at":', record[BEGUN] ~= '' and record[BEGUN] or 'null',
    ',"between":', between ~= '' and between or '{}', ',"many_networks":', tostring(networks == MANY), '}',
  })
end

-- Visitors ----------------------------------------------------------------------------------------------------------

-- A mark of who somebody is, as far as a page tells: the browser and the network. Nil where it does not tell both.
local function who_of(browser, context)
  if browser == NO_BROWSER or context:sub(1, #NO_NETWORK) == NO_NETWORK then return nil end
  return WHO .. redis.sha1hex(browser .. network_of(context)):sub(1, 16)
end

-- Whether an id of a visitor was lately found to be several people's.
local function is_several(had, now)
  local at = place_of(had, SEVERAL, 1, LEASE + 1)
  return at ~= nil and had[at + 3] > now - SEVERAL_KEPT
end

-- A record less its marks.
local function unmarked(had)
  local kept = {}
  for at = 1, #had, LEASE + 1 do
    if tostring(had[at]):byte() == PLUS then
      for i = at, at + LEASE do kept[#kept + 1] = had[i] end
    end
  end
  return kept
end

-- Remembers the session's lease that was granted last as that of somebody: another's may take its place on the page. An id that
-- too many have at once is several people's.
local function remember_who(had, who, session, now)
  local count, oldest = 0, nil
  local to = place_of(had, who, 1, LEASE + 1)
  if not to then
    for at = 1, #had, LEASE + 1 do
      if had[at] == SEVERAL then
        if had[at + 3] > now - SEVERAL_KEPT then return had end
        had = unmarked(had)
        break
      elseif tostring(had[at]):sub(1, 1) == WHO then
        count = count + 1
        if not oldest or had[at + 3] < had[oldest + 3] then oldest = at end
      end
    end
    to = count < MOST_WHO and #had + 1 or oldest
    if to == oldest and had[to + 3] > now - WHO_WITHIN then
      had, who = unmarked(had), SEVERAL
      to = #had + 1
    end
  end
  if who == SEVERAL then  -- it names no session, so erasing one does not take it away
    had[to], had[to + 1], had[to + 2], had[to + 3], had[to + LEASE] = SEVERAL, '', '', now, ''
    return had
  end
  local record, from = session.record, session.granted
  had[to], had[to + 1], had[to + 2], had[to + 3], had[to + LEASE] = who, record[from + 1], record[from + 2], now, session.id
  return had
end

-- Puts the leases of a visitor's session into what the visitor had.
local function remember(had, session, who, now)
  local place, record = {}, session.record
  for at = 1, #had, LEASE + 1 do place[had[at]] = at end
  for from = FIRST_LEASE, #record, LEASE do
    local to = place[record[from]] or #had + 1
    for i = 0, LEASE - 1 do had[to + i] = record[from + i] end
    had[to + LEASE] = session.id
  end
  if who then had = remember_who(had, who, session, now) end
  return bound(had, 1, LEASE + 1)
end

-- The session of somebody that a visitor's record names, and its leases: their places in the record.
local function session_of(had, who)
  local at = place_of(had, who, 1, LEASE + 1)
  if not at then return nil end
  local id, leases = had[at + LEASE], {}
  for lease = 1, #had, LEASE + 1 do
    if had[lease + LEASE] == id then leases[#leases + 1] = lease end
  end
  return id, leases
end
