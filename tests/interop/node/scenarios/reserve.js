'use strict';
// Reserving jobs: order, waiting, repeating.

const { randomUUID } = require('node:crypto');
const { connect } = require('../../../../examples/node/towline');
const { ack, job, push, reserve, state, until } = require('../steps');

const DEADLINE_EXCEEDED = 4;

exports.parked = async (broker, queue, address) => {
  const workerId = `parked-${randomUUID()}`;
  const waiting = reserve(broker, queue, { workerId });
  await until(async () => {
    const { workers } = await broker.admin.listWorkers({});
    return workers.some((worker) => worker.workerId === workerId);
  });
  const producer = connect(address);
  const pushedAt = Date.now();
  const id = await push(producer, queue);
  const lease = await waiting;
  producer.close();
  return {
    sameJob: lease.job.id === id,
    attempt: lease.attempt,
    milliseconds: Date.now() - pushedAt,
    leaseSeconds: lease.leaseRemaining.seconds,
  };
};

exports.nothing = async (broker, queue) => {
  const timed = async (fields, timeout) => {
    const start = Date.now();
    const request = { queues: [{ name: queue }], ...fields };
    const { leases } = await broker.queue.reserve(request, { timeout });
    return { leases: leases.length, milliseconds: Date.now() - start };
  };
  // The answer leaves the broker a quarter of a second early. A busy machine may need longer than
  // that to bring it here, but not every time.
  const inTime = async (tries) => {
    try {
      return await timed({ wait: { seconds: 60 } }, 2);
    } catch (error) {
      if (error.code !== DEADLINE_EXCEEDED || tries === 1) throw error;
      return inTime(tries - 1);
    }
  };
  return {
    atOnce: await timed({}, 20),
    afterWait: await timed({ wait: { seconds: 1 } }, 20),
    beforeDeadline: await inTime(5),
  };
};

exports.repeated = async (broker, queue) => {
  await broker.queue.push({ jobs: [job(queue), job(queue), job(queue)] });
  const request = { queues: [{ name: queue }], maxJobs: 2, requestId: randomUUID() };
  const tokens = async () => {
    const { leases } = await broker.queue.reserve(request);
    return leases.map(({ leaseToken }) => leaseToken);
  };
  const first = await tokens();
  return { count: first.length, same: JSON.stringify(first) === JSON.stringify(await tokens()) };
};

exports.order = async (broker, queue) => {
  const other = `${queue}-second`;
  const ids = {};
  ids.elsewhere = await push(broker, other, { priority: 9 });
  ids.first = await push(broker, queue);
  ids.second = await push(broker, queue);
  ids.urgent = await push(broker, queue, { priority: 5 });
  const { leases } = await broker.queue.reserve({
    queues: [{ name: queue }, { name: other }],
    maxJobs: 10,
  });
  const names = Object.fromEntries(Object.entries(ids).map(([name, id]) => [id, name]));
  return leases.map((lease) => names[lease.job.id]);
};

exports.large = async (broker, queue) => {
  const payload = Buffer.alloc(1024 * 1024, 7);
  await broker.queue.push({ jobs: Array.from({ length: 8 }, () => job(queue, { payload })) });
  const { leases } = await broker.queue.reserve({ queues: [{ name: queue }], maxJobs: 8 });
  return leases.map((lease) => lease.job.payload.equals(payload));
};

exports.abandoned = async (broker, queue, address) => {
  const workerId = `gone-${randomUUID()}`;
  const leaver = connect(address);
  const controller = new AbortController();
  const abandoned = leaver.queue
    .reserve({ queues: [{ name: queue }], wait: { seconds: 60 }, workerId }, {
      timeout: 65,
      signal: controller.signal,
    })
    .catch((error) => error.code);
  await until(async () => {
    const { workers } = await broker.admin.listWorkers({});
    return workers.some((worker) => worker.workerId === workerId);
  });
  controller.abort();
  const code = await abandoned;
  leaver.close();
  const id = await push(broker, queue);
  const lease = await reserve(broker, queue);
  return { code, sameJob: lease.job.id === id, attempt: lease.attempt, acked: await ack(broker, lease) };
};

exports.paused = async (broker, queue) => {
  const id = await push(broker, queue);
  const changed = [(await broker.admin.pauseQueue({ queue })).changed];
  changed.push((await broker.admin.pauseQueue({ queue })).changed);
  const { leases } = await broker.queue.reserve({ queues: [{ name: queue }] });
  const whilePaused = { leases: leases.length, state: await state(broker, id) };
  const waiting = reserve(broker, queue);
  changed.push((await broker.admin.resumeQueue({ queue })).changed);
  return { changed, whilePaused, afterwards: (await waiting).job.id === id };
};
