-- 4...: ids, in the order in which they are to stand. {news, how many}
local done = 0
for _, job in ipairs(find({unpack(ARGV, 4)})) do
  if job and job.state == DEAD then
    count(job, 'requeued')
    leave(job)
    job.attempt, job.finished, job.reason, job.lasting = 0, 0, 0, true
    wait(job, 0)
    change(job)
    done = done + 1
  end
end
if done == 0 then return {'', 0} end
return {write(), done}
