-- 4: time to remember until; 5...: ids. {news, how many}
local done = 0
for _, job in ipairs(find({unpack(ARGV, 5)})) do
  if job and job.state == DEAD and not job.removed then
    leave(job)
    remove(job)
    job.result = ''
    remember_job(job, tonumber(ARGV[4]), 0, '')
    free_key(job, true)
    done = done + 1
  end
end
if done == 0 then return {'', 0} end
return {write(), done}
