'use strict';
// Pushing jobs.

const { job, push, reserve, state } = require('../steps');

exports.single = async (broker, queue) => {
  const pushed = job(queue, {
    payload: Buffer.from([0, 255, 128]),
    contentType: 'application/x-bytes',
    headers: { traceparent: '00-1-2-00' },
    priority: -3,
  });
  const { results } = await broker.queue.push({ jobs: [pushed] });
  const { job: seen } = await broker.queue.getJob({ id: pushed.id });
  return {
    sameId: results[0].jobId === pushed.id && seen.job.id === pushed.id,
    outcome: results[0].outcome,
    state: seen.state,
    queue: seen.job.queue,
    payload: [...seen.job.payload],
    contentType: seen.job.contentType,
    headers: seen.job.headers,
    priority: seen.job.priority,
  };
};

exports.withoutId = async (broker, queue) => {
  const { results } = await broker.queue.push({ jobs: [{ queue, type: 'Test' }] });
  return { jobId: results[0].jobId, state: await state(broker, results[0].jobId) };
};

exports.batch = async (broker, queue) => {
  const jobs = Array.from({ length: 1000 }, () => job(queue));
  const { results } = await broker.queue.push({ jobs });
  return {
    outcomes: [...new Set(results.map(({ outcome }) => outcome))],
    sameOrder: results.every(({ jobId }, index) => jobId === jobs[index].id),
    count: results.length,
  };
};

exports.partial = async (broker, queue) => {
  const jobs = [job(queue), job(queue, { type: '' }), job(queue)];
  const { results } = await broker.queue.push({ jobs, allowPartial: true });
  return {
    outcomes: results.map(({ outcome }) => outcome),
    error: { code: results[1].error.code, field: results[1].error.field },
  };
};

exports.delayed = async (broker, queue) => {
  const tomorrow = { seconds: Math.floor(Date.now() / 1000) + 86400 };
  const delayed = await push(broker, queue, { delay: { seconds: 3600 } });
  const dated = await push(broker, queue, { runAt: tomorrow });
  const soon = await push(broker, queue, { delay: { nanos: 50_000_000 } });
  const states = [await state(broker, delayed), await state(broker, dated)];
  const lease = await reserve(broker, queue);
  const { leases: further } = await broker.queue.reserve({ queues: [{ name: queue }] });
  return { states, dueCame: lease.job.id === soon, further: further.length };
};

exports.twice = async (broker, queue) => {
  const once = job(queue);
  const first = await broker.queue.push({ jobs: [once] });
  const again = await broker.queue.push({ jobs: [once] });
  const { leases } = await broker.queue.reserve({ queues: [{ name: queue }], maxJobs: 10 });
  return {
    outcomes: [first.results[0].outcome, again.results[0].outcome],
    sameId: again.results[0].jobId === once.id,
    stored: leases.length,
  };
};

exports.uniqueKey = async (broker, queue) => {
  const holder = await push(broker, queue, { uniqueKey: 'invoice:7' });
  const other = job(queue, { uniqueKey: 'invoice:7' });
  const whileHeld = await broker.queue.push({ jobs: [other] });
  const { results: cancelled } = await broker.queue.cancelJob({ ids: [holder] });
  const afterwards = await broker.queue.push({ jobs: [other] });
  return {
    whileHeld: whileHeld.results[0].outcome,
    namesHolder: whileHeld.results[0].jobId === holder,
    cancelled: cancelled[0].outcome,
    afterwards: afterwards.results[0].outcome,
  };
};
