-- 4: time to remember until; 5: queue, id, grant and result of each lease.
-- {news, a line for each: "type elapsed", or the settlement that came before}
local till = tonumber(ARGV[4])
local items, ids, at = {}, {}, 1
while at <= #ARGV[5] do
  local item = {}
  item.queue, item.id, item.grant, item.result, at = unframe('<I2c0I2c0I2c0I4c0', ARGV[5], at)
  items[#items + 1], ids[#ids + 1] = item, item.id
end
local lines = {}

local runs, gone = buffer('ZREM', RUN), buffer('HDEL', IDS)
local gone_rows = buffer('HDEL', ROWS)
-- Ends the lease of a plain job, and the job with it. What is answered, if it was that lease.
local function finish_plain(item, row, n, kind)
  local state, _, _, _, _, started, _, _, _, _, grant, _, request = unframe(ROW, row)
  if state ~= LEASED or grant ~= item.grant then return end
  local bucket = bucket_of(n)
  local key = bucket_key(bucket)
  put('HDEL', key, n)
  thinned[key] = {'ZREM', P .. 'b', bucket}
  if request ~= '' then put('SREM', P .. 'r:' .. request, n) end
  local r, g, h = runs.n + 1, gone.n + 1, gone_rows.n + 1
  local id = item.id
  runs[r], runs.n = n, r
  gone[g], gone.n = id, g
  gone_rows[h], gone_rows.n = n, h
  remember_end(id, item.queue, SUCCEEDED, NOW, till, ACKED, grant, item.result)
  add_to_tally(item.queue, kind)
  told_ended[#told_ended + 1] = id
  return kind .. ' ' .. int(NOW - started)
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
  local item, static, row = items[i], statics[k], rows[k]
  if static and row and not ended[item.id] then
    local flags, _, _, queue, kind = unframe(HEAD, static)
    if is_plain(flags) and queue == item.queue then
      lines[i] = finish_plain(item, row, numbers[k], kind)
    end
  end
  if not lines[i] then
    others[#others + 1], ids_of_others[#ids_of_others + 1] = i, item.id
  end
end
for k, job in ipairs(find(ids_of_others)) do
  local i = others[k]
  local item = items[i]
  if job and not ended[item.id] and job.state == LEASED and job.grant == item.grant
    and job.queue == item.queue then
    job.result = item.result
    count(job, 'completed')
    lines[i] = job.type .. ' ' .. int(NOW - job.started)
    finish(job, SUCCEEDED, till, ACKED)
  end
end
for i, item in ipairs(items) do
  if not lines[i] then lines[i] = settlement_of(item.queue, item.id, item.grant) end
end
count_plain('leased', nil, 'completed')
local news = ''
if #told_ended > 0 then news = write() end
return {news, table.concat(lines, '\n')}
