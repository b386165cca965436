-- 4: time to remember until; 5: queue, id, grant and result of each lease.
-- {news, a line for each: "type elapsed", or the settlement that came before}
local till = tonumber(ARGV[4])
local queues, ids, grants, results = {}, {}, {}, {}
local blob, at, asked = ARGV[5], 1, 0
while at <= #blob do
  asked = asked + 1
  queues[asked], ids[asked], grants[asked], results[asked], at =
    unframe('<I2c0I2c0I2c0I4c0', blob, at)
end
local lines = {}

local runs, gone = buffer('ZREM', RUN), buffer('HDEL', IDS)
local gone_rows = buffer('HDEL', ROWS)
-- Where a row has the time of its start, and its grant.
local STARTED_AT, GRANT_AT = 19, 59
-- Jobs of one grant are told and remembered alike: what was made for the last one.
local last_queue, last_grant, last_kind, last_started, value, line = false, false, false, false, '', ''
-- Ends the lease of a plain job, and the job with it. What is answered, if it was that lease.
local function finish_plain(i, row, n, kind)
  local state, started = string.byte(row), unframe('<i8', row, STARTED_AT)
  local grant, _, request = unframe('<I2c0I2c0I2c0', row, GRANT_AT)
  if state ~= LEASED or grant ~= grants[i] then return end
  local bucket = bucket_of(n)
  local key = bucket_key(bucket)
  put('HDEL', key, n)
  thinned[key] = {'ZREM', P .. 'b', bucket}
  if request ~= '' then put('SREM', P .. 'r:' .. request, n) end
  local r, g, h = runs.n + 1, gone.n + 1, gone_rows.n + 1
  local id, queue = ids[i], queues[i]
  runs[r], runs.n = n, r
  gone[g], gone.n = id, g
  gone_rows[h], gone_rows.n = n, h
  if queue ~= last_queue or grant ~= last_grant then
    last_queue, last_grant = queue, grant
    value = end_of(queue, SUCCEEDED, NOW, till, ACKED, grant, '')
  end
  remember_end(id, value .. results[i], till)
  add_to_tally(queue, kind)
  told_ended[#told_ended + 1] = id
  if kind ~= last_kind or started ~= last_started then
    last_kind, last_started = kind, started
    line = kind .. ' ' .. int(NOW - started)
  end
  return line
end

local numbers, stored, places = {}, hmget(IDS, ids), {}
for i = 1, #ids do
  if stored[i] then
    numbers[#numbers + 1] = stored[i]
    places[#numbers] = i
  end
end
local statics, rows = raw(numbers)
local others, ids_of_others = {}, {}
for k, i in ipairs(places) do
  local static, row = statics[k], rows[k]
  if static and row and not ended[ids[i]] then
    local flags, _, _, queue, kind = unframe('<BI8i4I2c0I2c0', static)
    if is_plain(flags) and queue == queues[i] then
      lines[i] = finish_plain(i, row, numbers[k], kind)
    end
  end
  if not lines[i] then
    others[#others + 1], ids_of_others[#ids_of_others + 1] = i, ids[i]
  end
end
for k, job in ipairs(find(ids_of_others)) do
  local i = others[k]
  if job and not ended[ids[i]] and job.state == LEASED and job.grant == grants[i]
    and job.queue == queues[i] then
    job.result = results[i]
    count(job, 'completed')
    lines[i] = job.type .. ' ' .. int(NOW - job.started)
    finish(job, SUCCEEDED, till, ACKED)
  end
end
for i, id in ipairs(ids) do
  if not lines[i] then lines[i] = settlement_of(queues[i], id, grants[i]) end
end
count_plain('leased', nil, 'completed')
local news = ''
if #told_ended > 0 then news = write() end
return {news, table.concat(lines, '\n')}
