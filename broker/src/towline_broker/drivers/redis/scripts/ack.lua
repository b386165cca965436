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
for i, job in ipairs(find(ids)) do
  local item = items[i]
  if job and job.state == LEASED and job.grant == item.grant and job.queue == item.queue then
    job.result = item.result
    count(job, 'completed')
    lines[i] = job.type .. ' ' .. int(NOW - job.started)
    finish(job, SUCCEEDED, till, ACKED)
  else
    lines[i] = settlement_of(item.queue, item.id, item.grant)
  end
end
local news = ''
if #told_ended > 0 then news = write() end
return {news, table.concat(lines, '\n')}
