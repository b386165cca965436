-- 1: most jobs; 2-6: queue, type, reason, since, before; 7, 8: behind the job that died then and
-- has this number. The jobs, earliest death first.
local groups = groups_of(ARGV[2], ARGV[3], ARGV[4])
local member = ARGV[8] == '' and '' or fmt('%015.0f', tonumber(ARGV[8]))
local numbers = select_dead(groups, tonumber(ARGV[1]), ARGV[5], ARGV[6], ARGV[7], member)
local out = {}
for _, job in ipairs(load(numbers)) do tell_job(out, job) end
return table.concat(out)
