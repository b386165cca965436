'use strict';
// Figures and queues.

const { ack, job, nack, push, reserve, state } = require('../steps');

exports.stats = async (broker, queue) => {
  const jobs = [job(queue), job(queue), job(queue, { type: 'Other' }), job(queue)];
  await broker.queue.push({ jobs });
  await push(broker, queue, { delay: { seconds: 3600 } });
  await ack(broker, await reserve(broker, queue));
  await nack(broker, await reserve(broker, queue), { deadLetter: true });
  await reserve(broker, queue);
  const answer = await broker.admin.stats({ queues: [queue] });
  const [{ figures, ...found }] = answer.queues;
  return {
    name: found.queue,
    paused: found.paused,
    depth: figures.depth,
    totals: figures.totals,
    totalIsSum: JSON.stringify(answer.total.totals) === JSON.stringify(figures.totals),
    successRate: figures.successRate,
    timed: [figures.processing.count, figures.wait.count],
    types: answer.types.map(({ type, figures: { totals } }) => [type, totals.pushed]),
    driver: answer.broker.driver,
    durability: answer.broker.durability,
  };
};

exports.purge = async (broker, queue) => {
  const id = await push(broker, queue);
  await push(broker, queue, { delay: { seconds: 3600 } });
  await push(broker, queue);
  const dryRun = await broker.admin.purgeQueue({ queue, dryRun: true });
  const first = await broker.admin.purgeQueue({ queue, limit: 2 });
  const rest = await broker.admin.purgeQueue({ queue });
  const { queues } = await broker.admin.listQueues({});
  return {
    dryRun,
    first,
    rest,
    state: await state(broker, id),
    depth: queues.find(({ name }) => name === queue).depth,
  };
};
