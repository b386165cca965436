'use strict';
// Calls that fail, and what they say.

const { randomUUID } = require('node:crypto');
const { untilAnswered } = require('../../../../examples/node/towline');
const { ack, failure, job, push, reserve, state } = require('../steps');

exports.badFields = async (broker, queue) => {
  const good = job(queue);
  const jobs = [good, job('not a name'), job(queue, { id: 'seven', type: '' })];
  const failed = await failure(broker.queue.push({ jobs }));
  const { code: goodOne } = await failure(state(broker, good.id));
  return { failed, goodOne };
};

exports.tooLarge = async (broker, queue) => {
  const payload = Buffer.alloc(1024 * 1024 + 1);
  return failure(broker.queue.push({ jobs: [job(queue, { payload })] }));
};

exports.tooMany = async (broker, queue) =>
  failure(broker.queue.push({ jobs: Array.from({ length: 1001 }, () => job(queue)) }));

exports.outOfBounds = async (broker, queue) => {
  const reserve = (fields) => failure(broker.queue.reserve({ queues: [{ name: queue }], ...fields }));
  return {
    noQueue: await reserve({ queues: [] }),
    wait: await reserve({ wait: { seconds: 61 } }),
    lease: await reserve({ lease: { nanos: 1 } }),
    maxJobs: await reserve({ maxJobs: -1 }),
    requestId: await reserve({ requestId: 'x'.repeat(129) }),
  };
};

exports.notFound = async (broker, queue) => ({
  job: await failure(broker.queue.getJob({ id: randomUUID() })),
  queue: await failure(broker.admin.pauseQueue({ queue })),
  stats: await failure(broker.admin.stats({ queues: [queue] })),
  worker: await failure(broker.admin.stopWorker({ workerId: 'nobody' })),
});

exports.queueFull = async (broker, queue) => {
  await broker.queue.push({ jobs: [job(queue), job(queue)] });
  const third = job(queue);
  const failed = await failure(broker.queue.push({ jobs: [third] }));
  const elsewhere = await push(broker, `${queue}-other`);
  const patient = untilAnswered(() => broker.queue.push({ jobs: [third] }));
  const acked = await ack(broker, await reserve(broker, queue));
  const { results } = await patient;
  return { failed, elsewhere: await state(broker, elsewhere), acked, patient: results[0].outcome };
};
