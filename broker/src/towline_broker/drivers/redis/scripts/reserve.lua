-- 4: most jobs; 5: length of the lease; 6: grant; 7: worker; 8: request; 9: most bytes of
-- envelopes; 10: "1" to look for leases under the request first; 11...: queues.
-- {news, "1" if there is more to look at, leased jobs}
local most, length, grant, worker, request = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], ARGV[7], ARGV[8]
local room = tonumber(ARGV[9])
local queues = {unpack(ARGV, 11)}

-- How many jobs beyond those leased one call looks at, to find those that are too old.
local LOOK = 1000

local out, granted, taken = {}, {}, 0
if request ~= '' and ARGV[10] == '1' then
  local held = load(redis.call('SMEMBERS', P .. 'r:' .. request))
  for _, job in ipairs(held) do tell_job(out, job) end
  if #out > 0 then return {'', '0', table.concat(out)} end
end

local look = most + LOOK

local function take(job)
  if job.attempt == 0 and job.expires ~= 0 and not job.lasting and job.expires <= NOW then
    bury(job, EXPIRED)
    return
  end
  lease(job, length, grant, worker, request)
  taken = taken + 1
  granted[taken] = job
  room = room - job.size
end

-- Of the rows of plain jobs that were never started all but two numbers are the same.
local till = NOW + length
local BEFORE, BETWEEN = pack('<BBi4i4', LEASED, 0, 1, 0), pack('<i8i8i8i8', NOW, 0, till, length)
local AFTER = pack('<I2c0I2c0I2c0I4I4I4', #grant, grant, #worker, worker, #request, request, 0, 0, 0)
local PLAIN_ROW = '<c' .. #BEFORE .. 'i8c' .. #BETWEEN .. 'i8c' .. #AFTER
local TILL, ROW_LENGTH = int(till), pack('<I4', #BEFORE + 8 + #BETWEEN + 8 + #AFTER)
-- What is told of them beside what begins it.
local told_statics, told_rows = {}, {}
local running, rows_put, asked_for = buffer('ZADD', RUN), buffer('HSET', ROWS), false
if request ~= '' then asked_for = buffer('SADD', P .. 'r:' .. request) end

-- Whether the job was plain, and is leased. "line": those to be taken from its line.
local function take_plain(static, n, line)
  local flags, enqueued, _, queue, kind, _, at = unframe(HEAD, static)
  if not is_plain(flags) then return false end
  if flags ~= 0 then
    if flags % 2 >= ORDERED then at = at + 8 end
    if flags >= RETRYING then at = at + 2 + unframe('<I2', static, at) end
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
  taken = taken + 1
  granted[taken] = pack('<I4c0I4', #n, n, #static)
  told_statics[taken], told_rows[taken] = static, row
  room = room - (#static - at + 1)
  return true
end

local function take_line(queue, priority)
  local key = line_key(queue, priority)
  local line, from = buffer('ZREM', key), 0
  thinned[key] = {'ZREM', P .. 'p:' .. queue, int(priority)}
  while taken < most and room > 0 and look > 0 do
    local wanted = min(most - taken, look)
    local numbers = redis.call('ZRANGE', key, from, from + wanted - 1)
    local statics, rows = raw(numbers)
    for i, n in ipairs(numbers) do
      if room <= 0 then return end
      local static, row = statics[i], rows[i]
      if row or not take_plain(static, n, line) then take(whole(static, row, n)) end
    end
    from, look = from + #numbers, look - #numbers
    if #numbers < wanted then return end
  end
end

if most > 0 then
  for i, marks in ipairs(hmget(P .. 'qs', queues)) do
    local paused, _, to = queue_marks(marks)
    if not paused and to == '' then
      for _, priority in ipairs(priorities_of(queues[i])) do
        if taken >= most or room <= 0 or look <= 0 then break end
        take_line(queues[i], tonumber(priority))
      end
    end
  end
end

if taken == 0 and #changed == 0 then return {'', '0', ''} end
count_plain('ready', 'leased', 'started')
local news = write()
for i, job in ipairs(granted) do
  local row = told_rows[i]
  if row then
    local o = #out
    out[o + 1], out[o + 2], out[o + 3], out[o + 4] = job, told_statics[i], ROW_LENGTH, row
  else
    tell_job(out, job)
  end
end
return {news, look <= 0 and '1' or '0', table.concat(out)}
