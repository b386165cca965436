-- 1: queue, id and grant of each lease. The jobs, without envelopes; empty for one not held so.
local refs, ids, at = {}, {}, 1
while at <= #ARGV[1] do
  local queue, id, grant
  queue, id, grant, at = unframe('<I2c0I2c0I2c0', ARGV[1], at)
  refs[#refs + 1] = {queue = queue, grant = grant}
  ids[#ids + 1] = id
end
local out = {}
for i, job in ipairs(find(ids)) do
  if job and job.state == LEASED and job.grant == refs[i].grant and job.queue == refs[i].queue then
    tell_lease(out, job)
  else
    for _ = 1, 3 do frame(out, '') end
  end
end
return table.concat(out)
