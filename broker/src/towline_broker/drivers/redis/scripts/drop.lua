-- 4: queue; 5...: ids. {news, how many}
local done = 0
for _, job in ipairs(find({unpack(ARGV, 5)})) do
  if job and job.queue == ARGV[4] and job.state ~= LEASED and not job.removed then
    leave(job)
    remove(job)
    free_key(job, true)
    put('HDEL', P .. 'mem', job.id)
    done = done + 1
  end
end
if done == 0 then return {'', 0} end
return {write(), done}
