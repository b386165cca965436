-- 1: most jobs; 2-6: queue, type, reason, since, before; 7, 8: behind the job that died then and
-- has this number. {the jobs, earliest death first, "1" if there may be more}
local groups = groups_of(ARGV[2], ARGV[3], ARGV[4])
local member = ARGV[8] == '' and '' or fmt('%015.0f', tonumber(ARGV[8]))
local numbers, more = select_dead(groups, tonumber(ARGV[1]), ARGV[5], ARGV[6], ARGV[7], member)
local out, size = {}, 0
for _, job in ipairs(load(numbers)) do
  if size >= MOST_TOLD then
    more = true
    break
  end
  tell_job(out, job)
  size = size + job.size
end
return {table.concat(out), more and '1' or '0'}
