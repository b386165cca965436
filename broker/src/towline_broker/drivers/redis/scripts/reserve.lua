-- 4: requests, and of each: its time, most jobs, length of the lease, most bytes of envelopes, "1" to
-- look for leases under the request id first, grant, worker, request id; 5...: queues, the same for
-- all of them. No two have the same request id. They are served one after the other.
-- {news, of each request: "1" if there is more to look at, and how many jobs; the leased jobs}
local REQUEST = '<i8I4i8i8BI2c0I2c0I2c0'
local requests, wanted_by_all, at = {}, 0, 1
while at <= #ARGV[4] do
  local one = {taken = 0, more = 0}
  one.now, one.most, one.length, one.room, one.look_first, one.grant, one.worker, one.id, at =
    unframe(REQUEST, ARGV[4], at)
  requests[#requests + 1] = one
  wanted_by_all = wanted_by_all + one.most
end
local queues = {unpack(ARGV, 5)}

-- How many jobs beyond those leased one call looks at, to find those that are too old.
local LOOK = 1000
-- Requests that are served together get no more than so many bytes of envelopes and one request.
local MOST_TOGETHER = 8 * 1024 * 1024

-- Jobs to tell of, in their order. Of the plain ones what begins each, and what is told beside.
local out, granted, told, told_bytes = {}, {}, 0, 0
local told_statics, told_rows, told_lengths = {}, {}, {}
local look = wanted_by_all + LOOK

-- Of the rows of plain jobs that were never started all but two numbers are the same for a request.
local BEFORE = pack('<BBi4i4', LEASED, 0, 1, 0)
local PLAIN_ROW, BETWEEN, AFTER, TILL, ROW_LENGTH
local running, rows_put, asked_for = buffer('ZADD', RUN), buffer('HSET', ROWS), false
-- The request that is served.
local serving
local function serve_next(request)
  serving, NOW = request, request.now
  local till, grant, worker, id = NOW + request.length, request.grant, request.worker, request.id
  BETWEEN = pack('<i8i8i8i8', NOW, 0, till, request.length)
  AFTER = pack('<I2c0I2c0I2c0I4I4I4', #grant, grant, #worker, worker, #id, id, 0, 0, 0)
  PLAIN_ROW = '<c' .. #BEFORE .. 'i8c' .. #BETWEEN .. 'i8c' .. #AFTER
  TILL, ROW_LENGTH = int(till), pack('<I4', #BEFORE + 8 + #BETWEEN + 8 + #AFTER)
  asked_for = id ~= '' and buffer('SADD', P .. 'r:' .. id)
end

local function tell(job, size)
  serving.taken = serving.taken + 1
  serving.room = serving.room - size
  told, told_bytes = told + 1, told_bytes + size
  granted[told] = job
end

local function take(job)
  if job.attempt == 0 and job.expires ~= 0 and not job.lasting and job.expires <= NOW then
    bury(job, EXPIRED)
    return
  end
  lease(job, serving.length, serving.grant, serving.worker, serving.id)
  tell(job, job.size)
end

-- Whether the job was plain, and is leased. "line": those to be taken from its line.
local function take_plain(static, n, line)
  local flags, enqueued, _, queue, kind, _, from = unframe(HEAD, static)
  if not is_plain(flags) then return false end
  if flags ~= 0 then
    if flags % 2 >= ORDERED then from = from + 8 end
    if flags >= RETRYING then from = from + 2 + unframe('<I2', static, from) end
  end
  local row = pack(PLAIN_ROW, BEFORE, enqueued, BETWEEN, tonumber(n), AFTER)
  local l, r, h = line.n, running.n, rows_put.n
  line[l + 1], line.n = n, l + 1
  running[r + 1], running[r + 2], running.n = TILL, n, r + 2
  rows_put[h + 1], rows_put[h + 2], rows_put.n = n, row, h + 2
  if asked_for then
    local a = asked_for.n
    asked_for[a + 1], asked_for.n = n, a + 1
  end
  add_to_tally(queue, kind)
  tell(pack('<I4c0I4', #n, n, #static), #static - from + 1)
  told_statics[told], told_rows[told], told_lengths[told] = static, row, ROW_LENGTH
  return true
end

-- The lines that may have jobs, in their order; and where those that were served have come to.
local lines, at_line, at_queue = {}, 1, 0

-- Finds the lines of the next queue; false if there is none.
local function find_lines()
  at_queue = at_queue + 1
  local queue = queues[at_queue]
  if not queue then return false end
  local paused, _, to = queue_marks(redis.call('HGET', P .. 'qs', queue))
  if paused or to ~= '' then return true end
  for _, priority in ipairs(priorities_of(queue)) do
    local key = line_key(queue, tonumber(priority))
    lines[#lines + 1] = {
      key = key, gone = buffer('ZREM', key), named = {'ZREM', P .. 'p:' .. queue, priority},
      from = 0, numbers = {}, i = 0, ended = false,
    }
  end
  return true
end

-- Reads on in a line; false at its end. What all requests may still want is read at once.
local function read_on(line)
  if line.ended then return false end
  local wanted = min(wanted_by_all - serving.taken, look)
  local numbers = redis.call('ZRANGE', line.key, line.from, line.from + wanted - 1)
  line.statics, line.rows = raw(numbers)
  line.numbers, line.i, line.from = numbers, 0, line.from + #numbers
  line.ended = #numbers < wanted
  thinned[line.key] = line.named
  return #numbers > 0
end

local function is_served(request)
  return request.taken >= request.most or request.room <= 0 or look <= 0
end

local function serve(request)
  while not is_served(request) do
    local line = lines[at_line]
    if not line then
      if not find_lines() then return end
    elseif line.i < #line.numbers then
      local i = line.i + 1
      line.i, look = i, look - 1
      local n, static, row = line.numbers[i], line.statics[i], line.rows[i]
      if row or not take_plain(static, n, line.gone) then take(whole(static, row, n)) end
    elseif not read_on(line) then
      at_line = at_line + 1
    end
  end
end

for _, request in ipairs(requests) do
  serve_next(request)
  local held = {}
  if request.id ~= '' and request.look_first == 1 then
    held = load(redis.call('SMEMBERS', P .. 'r:' .. request.id))
  end
  if #held > 0 then
    for _, job in ipairs(held) do tell(job, job.size) end
  elseif told > 0 and told_bytes >= MOST_TOGETHER then
    request.more = 1
  else
    serve(request)
    if look <= 0 then request.more = 1 end
  end
  wanted_by_all = wanted_by_all - request.most
end

local heads = {}
for i, request in ipairs(requests) do heads[i] = pack('<BI4', request.more, request.taken) end
heads = table.concat(heads)
if not next(tallied) and #changed == 0 then
  for _, job in ipairs(granted) do tell_job(out, job) end
  return {'', heads, table.concat(out)}
end
count_plain('ready', 'leased', 'started')
local news = write()
for i, job in ipairs(granted) do
  local row = told_rows[i]
  if row then
    local o = #out
    out[o + 1], out[o + 2], out[o + 3], out[o + 4] = job, told_statics[i], told_lengths[i], row
  else
    tell_job(out, job)
  end
end
return {news, heads, table.concat(out)}
