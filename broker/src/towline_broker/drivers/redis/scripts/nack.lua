-- 4: time to remember until; 5: of each lease settlement, reason (0: lives), due time (0: at once),
-- queue, id, grant, failure (empty: as before).
-- {news, a line for each: "type elapsed", or the settlement that came before}
local till = tonumber(ARGV[4])
local items, ids, at = {}, {}, 1
while at <= #ARGV[5] do
  local item = {}
  item.settlement, item.reason, item.due, item.queue, item.id, item.grant, item.failure, at =
    unframe('<BBi8I2c0I2c0I2c0I4c0', ARGV[5], at)
  items[#items + 1], ids[#ids + 1] = item, item.id
end

local function settle(job, item)
  remember_lease(job, job.grant, item.settlement, till)
  if item.failure ~= '' then job.failure = item.failure end
  if item.settlement == RELEASED then
    count(job, 'released')
  else
    count(job, 'failed')
    if item.settlement == LOST then count(job, 'lease_expired') end
    if item.reason == 0 then count(job, 'retried') end
  end
  if item.reason ~= 0 then
    bury(job, item.reason)
    return
  end
  leave(job)
  if item.settlement == RELEASED then
    job.attempt, job.releases = job.attempt - 1, job.releases + 1
  end
  wait(job, item.due)
  change(job)
end

local lines = {}
for i, job in ipairs(find(ids)) do
  local item = items[i]
  local held = job and job.state == LEASED and job.grant == item.grant and job.queue == item.queue
  if held and item.settlement == LOST and job.till > NOW then
    lines[i] = 0
  elseif held then
    lines[i] = job.type .. ' ' .. int(NOW - job.started)
    settle(job, item)
  else
    lines[i] = settlement_of(item.queue, item.id, item.grant)
  end
end
local news = ''
if #changed > 0 then news = write() end
return {news, table.concat(lines, '\n')}
