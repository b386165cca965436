-- 4: of each lease its new length (-1: as granted), "1" if there is progress, queue, id, grant,
-- fraction, message, checkpoint.
-- A line for each: "=deadline", or the settlement that came before.
local items, ids, at = {}, {}, 1
while at <= #ARGV[4] do
  local item = {}
  item.length, item.reports, item.queue, item.id, item.grant, item.fraction, item.message,
    item.checkpoint, at = unframe('<i8BI2c0I2c0I2c0dI4c0I4c0', ARGV[4], at)
  items[#items + 1], ids[#ids + 1] = item, item.id
end

-- A report without a checkpoint leaves the one before.
local function report(job, item)
  local checkpoint = item.checkpoint
  if checkpoint == '' and job.progress ~= '' then
    local _, _, rest = unframe('<dI4c0', job.progress)
    checkpoint = string.sub(job.progress, rest)
  end
  job.progress = pack('<dI4c0', item.fraction, #item.message, item.message) .. checkpoint
end

local lines = {}
for i, job in ipairs(find(ids)) do
  local item = items[i]
  if job and job.state == LEASED and job.grant == item.grant and job.queue == item.queue then
    job.till = NOW + (item.length < 0 and job.length or item.length)
    if item.reports == 1 then report(job, item) end
    put('ZADD', P .. 'run', job.till, job.n)
    change(job)
    lines[i] = '=' .. int(job.till)
  else
    lines[i] = settlement_of(item.queue, item.id, item.grant)
  end
end
if #changed > 0 then write() end
return table.concat(lines, '\n')
