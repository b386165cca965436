'use strict';
// A Towline client for Node: @grpc/grpc-js and the .proto files as they are, nothing generated.

const path = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const PROTOS = path.join(__dirname, '..', '..', 'protos');
const FILES = ['queue_service', 'dead_letter_service', 'admin_service', 'errors'];

// A field that is not set reads as '', 0, [] or null; a Duration is { seconds, nanos }, bytes are
// a Buffer, and the value of an enum is its name.
const definition = protoLoader.loadSync(
  FILES.map((name) => `towline/v1/${name}.proto`),
  { includeDirs: [PROTOS], defaults: true, enums: String, longs: Number, oneofs: true },
);
const api = grpc.loadPackageDefinition(definition).towline.v1;

const OPTIONS = {
  // grpc-js accepts 4 MiB unless told otherwise; the broker's answers hold many payloads of up to 1 MiB.
  'grpc.max_receive_message_length': -1,
  // However long the broker was away: look for it again every two seconds.
  'grpc.max_reconnect_backoff_ms': 2000,
};

/**
 * Connects to the broker at `host:port`. The answer has one object per service, `queue`, `dead` and
 * `admin`, with one function per RPC: `await broker.queue.push({ jobs: [...] })`.
 */
function connect(address, credentials = grpc.credentials.createInsecure()) {
  const clients = [api.QueueService, api.DeadLetterService, api.AdminService].map(
    (Service) => new Service(address, credentials, OPTIONS),
  );
  const [queue, dead, admin] = clients.map(withPromises);
  return { queue, dead, admin, close: () => clients.forEach((client) => client.close()) };
}

function withPromises(client) {
  const methods = Object.values(client.constructor.service);
  return Object.fromEntries(
    methods.map(({ originalName: name }) => [
      name,
      (request, options) => promised(client, name, request, options),
    ]),
  );
}

/** One call, given up after `timeout` seconds or when `signal` is aborted. */
function promised(client, name, request, { timeout = 10, signal } = {}) {
  return new Promise((resolve, reject) => {
    const cancel = () => call.cancel();
    const call = client[name](
      request,
      { deadline: Date.now() + timeout * 1000 },
      (error, answer) => {
        signal?.removeEventListener('abort', cancel);
        if (error) reject(error);
        else resolve(answer);
      },
    );
    if (signal?.aborted) cancel();
    else signal?.addEventListener('abort', cancel);
  });
}

const DETAILS = ['ErrorInfo', 'BadRequest', 'QuotaFailure', 'RetryInfo'];

/** What a failed call says beyond code and message, such as `details(error).BadRequest`. */
function details(error) {
  const [packed] = error.metadata?.get('grpc-status-details-bin') ?? [];
  const found = {};
  for (const { type_url: url, value } of packed ? api.Status.deserialize(packed).details : []) {
    const name = DETAILS.find((known) => url === `type.googleapis.com/google.rpc.${known}`);
    if (name) found[name] = api[name].deserialize(value);
  }
  return found;
}

const { CANCELLED, UNAVAILABLE, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED } = grpc.status;

/**
 * Makes a call, and makes it again for as long as the broker is away, draining or full. Only for
 * calls that are safe to repeat: the contract says for each RPC what makes it so.
 */
async function untilAnswered(call, signal) {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      const { RetryInfo: retry } = details(error);
      const again =
        [UNAVAILABLE, DEADLINE_EXCEEDED].includes(error.code) ||
        // By a broker that stopped just then, unless we did it ourselves.
        (error.code === CANCELLED && !signal?.aborted) ||
        (error.code === RESOURCE_EXHAUSTED && retry);
      if (!again) throw error;
      console.error(`trying again: ${error.message}`);
      await sleep(retry ? inSeconds(retry.retryDelay) * 1000 : 1000, undefined, { signal });
    }
  }
}

/** A number of seconds as a Duration. */
function duration(seconds) {
  const whole = Math.floor(seconds);
  return { seconds: whole, nanos: Math.round((seconds - whole) * 1e9) };
}

/** A Duration as a number of seconds. */
function inSeconds({ seconds, nanos }) {
  return seconds + nanos / 1e9;
}

module.exports = { connect, details, duration, inSeconds, untilAnswered };
