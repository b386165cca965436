'use strict';
// The dead-letter queue.

const { job, nack, push, reserve, state } = require('../steps');

/** Kills so many jobs of a queue, one after the other, and returns their ids in that order. */
async function dead(broker, queue, count) {
  const jobs = Array.from({ length: count }, (_, index) =>
    job(queue, { payload: Buffer.from(`number ${index}`), type: index % 2 ? 'Odd' : 'Even' }),
  );
  await broker.queue.push({ jobs });
  for (let done = 0; done < count; done += 1) {
    const lease = await reserve(broker, queue);
    await nack(broker, lease, { failure: { type: 'Refused', message: 'no' }, deadLetter: true });
  }
  return jobs.map(({ id }) => id);
}

exports.listed = async (broker, queue) => {
  const ids = await dead(broker, queue, 5);
  const exhausted = await push(broker, queue, { retry: { maxAttempts: 1 } });
  await nack(broker, await reserve(broker, queue));
  const listed = [];
  let pages = 0;
  let pageToken = '';
  do {
    const page = await broker.dead.listDead({ filter: { queue }, pageSize: 2, pageToken });
    listed.push(...page.jobs);
    pageToken = page.nextPageToken;
    pages += 1;
  } while (pageToken !== '');
  const odd = await broker.dead.listDead({ filter: { queue, type: 'Odd' }, view: 'JOB_VIEW_FULL' });
  const spent = await broker.dead.listDead({
    filter: { queue, reason: 'DEAD_REASON_ATTEMPTS_EXHAUSTED' },
  });
  return {
    inOrder: JSON.stringify(listed.map((info) => info.job.id)) === JSON.stringify([...ids, exhausted]),
    pages,
    reason: listed[0].deadReason,
    failure: listed[0].lastFailure.type,
    basicPayload: listed[0].job.payload.toString(),
    oddPayloads: odd.jobs.map((info) => info.job.payload.toString()),
    spent: spent.jobs.map((info) => info.job.id === exhausted),
  };
};

exports.requeued = async (broker, queue) => {
  const ids = await dead(broker, queue, 4);
  const filter = { queue };
  const dryRun = await broker.dead.requeueDead({ selection: { filter }, dryRun: true });
  const untouched = await state(broker, ids[0]);
  const byId = await broker.dead.requeueDead({ selection: { ids: [ids[0]] } });
  const lease = await reserve(broker, queue);
  const byFilter = await broker.dead.requeueDead({ selection: { filter }, limit: 2 });
  const { jobs: left } = await broker.dead.listDead({ filter });
  return {
    dryRun,
    untouched,
    byId,
    again: { sameJob: lease.job.id === ids[0], attempt: lease.attempt, why: lease.lastFailure.type },
    byFilter,
    left: left.map((info) => info.job.id === ids[3]),
  };
};

exports.discarded = async (broker, queue) => {
  const ids = await dead(broker, queue, 3);
  const byId = await broker.dead.discardDead({ selection: { ids: [ids[1]] } });
  const again = await broker.dead.discardDead({ selection: { ids: [ids[1]] } });
  const byFilter = await broker.dead.discardDead({ selection: { filter: { queue, type: 'Even' } } });
  const { jobs: left } = await broker.dead.listDead({ filter: { queue } });
  return { byId, again, byFilter, left: left.length };
};
