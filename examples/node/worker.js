'use strict';
// Runs the jobs of one queue until Ctrl-C or SIGTERM, then finishes those at hand.
//
//   node worker.js [HOST:PORT]

const { randomUUID } = require('node:crypto');
const { setTimeout: sleep } = require('node:timers/promises');
const os = require('node:os');
const { connect, duration, inSeconds, untilAnswered } = require('./towline');

// What this worker can run, by job type. What a handler returns is the job's result.
const handlers = {
  CountWords({ text }) {
    const words = text.split(/\s+/).filter((word) => word !== '');
    return { words: words.length, characters: [...text].length };
  },
};

const LEASE = 30; // seconds; prolonged every third of it for as long as the job runs
const WAIT = 30; // seconds that a Reserve waits at the broker for a job
const LONGEST_TIMER = 2 ** 31 - 1; // milliseconds; setTimeout takes more for 1

class Worker {
  constructor(broker, queue, concurrency) {
    this.broker = broker;
    this.queue = queue;
    this.concurrency = concurrency;
    this.id = `${os.hostname()}-${process.pid}`.replace(/[^!-~]/g, '_').slice(-128);
    this.running = new Map(); // lease token -> { controller, finished }
    this.quiet = false; // told by an operator to take no further jobs
    this.stopped = false;
    this.reserving = new AbortController(); // ends the Reserve that waits at the broker
  }

  stop() {
    this.stopped = true;
    this.reserving.abort();
  }

  async run() {
    const heartbeats = setInterval(() => this.heartbeat(), (LEASE / 3) * 1000);
    try {
      while (!this.stopped) await this.takeJobs();
      await Promise.all(this.finishing());
    } finally {
      clearInterval(heartbeats);
    }
  }

  async takeJobs() {
    const free = this.concurrency - this.running.size;
    if (this.quiet || free === 0) {
      await Promise.race([sleep(1000), ...this.finishing()]);
      return;
    }
    const request = {
      queues: [{ name: this.queue }],
      maxJobs: free,
      wait: duration(WAIT),
      lease: duration(LEASE),
      workerId: this.id,
      requestId: randomUUID(), // the same at each repeat, so that an answer that got lost is given again
    };
    this.reserving = new AbortController();
    const { signal } = this.reserving;
    try {
      const { leases } = await untilAnswered(
        () => this.broker.queue.reserve(request, { timeout: WAIT + 5, signal }),
        signal,
      );
      for (const lease of leases) this.start(lease);
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  finishing() {
    return [...this.running.values()].map(({ finished }) => finished);
  }

  start(lease) {
    const controller = new AbortController();
    const finished = this.finish(lease, controller)
      .catch((error) => console.error(`${lease.job.id}: not settled: ${error.message}`))
      .finally(() => this.running.delete(lease.leaseToken));
    this.running.set(lease.leaseToken, { controller, finished });
  }

  /** Runs a job and settles its lease. Both calls are safe to repeat. */
  async finish({ leaseToken, job }, { signal }) {
    const { queue } = this.broker;
    const { result, nack } = await outcome(job, signal);
    const { results } = nack
      ? await untilAnswered(() => queue.nack({ nacks: [{ leaseToken, ...nack }] }))
      : await untilAnswered(() => queue.ack({ acks: [{ leaseToken, result }] }));
    console.log(`${job.id} ${job.type}: ${nack ? nack.failure.message : 'done'}`);
    if (results[0].outcome !== 'LEASE_OUTCOME_OK') {
      console.error(`${job.id}: ${results[0].outcome}: the broker did not record this`);
    }
  }

  /** Prolongs all leases, and hears which jobs are to be given up and what this worker is to do. */
  async heartbeat() {
    const tokens = [...this.running.keys()];
    const request = { workerId: this.id, leases: tokens.map((leaseToken) => ({ leaseToken })) };
    try {
      const { results, directive } = await this.broker.queue.heartbeat(request);
      tokens.forEach((token, index) => {
        const lost = results[index].outcome !== 'LEASE_OUTCOME_OK';
        if (lost) this.running.get(token)?.controller.abort(new Error('the lease is lost'));
      });
      this.quiet = directive === 'WORKER_DIRECTIVE_QUIET';
      if (this.quiet) this.reserving.abort();
      if (directive === 'WORKER_DIRECTIVE_STOP') this.stop();
    } catch (error) {
      console.error(`heartbeat: ${error.message}`); // the next one is soon enough
    }
  }
}

/** Runs a job: { result } to acknowledge it with, or { nack } with what went wrong. */
async function outcome(job, signal) {
  if (!Object.hasOwn(handlers, job.type)) {
    const failure = { type: 'UnknownType', message: `no handler for ${job.type}` };
    return { nack: { failure, release: { delay: duration(10) } } };
  }
  let args;
  try {
    args = JSON.parse(job.payload);
  } catch (error) {
    return { nack: { failure: failureOf(error), deadLetter: true } }; // no retry would mend it
  }
  try {
    const value = await withTimeout(job, signal, (either) => handlers[job.type](args, either));
    return { result: Buffer.from(JSON.stringify(value ?? null)) };
  } catch (error) {
    return { nack: { failure: failureOf(error) } }; // the job's retry policy decides
  }
}

/** Runs a handler until the job's time is over or its lease is lost; the handler gets the signal. */
async function withTimeout(job, signal, run) {
  const over = new AbortController();
  const giveUp = () => over.abort(signal.reason);
  signal.addEventListener('abort', giveUp);
  const timer = job.timeout && setTimeout(
    () => over.abort(new Error('timed out')),
    Math.min(inSeconds(job.timeout) * 1000, LONGEST_TIMER),
  );
  const aborted = new Promise((_, reject) => {
    over.signal.addEventListener('abort', () => reject(over.signal.reason));
  });
  try {
    return await Promise.race([run(over.signal), aborted]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', giveUp);
  }
}

function failureOf(error) {
  return { type: error?.name, message: String(error?.message ?? error), trace: error?.stack };
}

async function main(address = '127.0.0.1:7480') {
  const broker = connect(address);
  const worker = new Worker(broker, 'texts', 4);
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => worker.stop());
  console.log(`worker ${worker.id}: waiting for jobs of queue texts at ${address}`);
  await worker.run();
  broker.close();
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(`worker: ${error.message}`);
  process.exitCode = 1;
});
