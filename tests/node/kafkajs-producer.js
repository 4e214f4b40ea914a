// Sends as a service does with KafkaJS: reads { messages: [{ topic, key, value, headers }], abort } from stdin, a JSON
// object a line, each sent together, and writes where they are. A value that is no text is sent as JSON. The
// producer is plain, idempotent or transactional; of the last one a batch is a transaction. With a key in
// hexadecimal digits it signs.
const { createHmac } = require("node:crypto");
const { createInterface } = require("node:readline");
const { Kafka, logLevel } = require("kafkajs");

const { brokers, kind, id, signingKey } = JSON.parse(process.argv[2]);
const kafka = new Kafka({ clientId: "tests", brokers: [brokers], logLevel: logLevel.NOTHING });
const producer = kafka.producer({
  plain: {},
  idempotent: { idempotent: true, maxInFlightRequests: 1 },
  transactional: { idempotent: true, maxInFlightRequests: 1, transactionalId: id },
}[kind]);

const signed = (value, headers = {}) => {
  if (!signingKey) return headers;
  const text = `${headers.ce_id ?? ""}\n${headers.ce_time ?? ""}\n${value}`;
  return { ...headers, "x-signature": createHmac("sha256", Buffer.from(signingKey, "hex")).update(text).digest("hex") };
};

const record = ({ topic, key, value: given, headers }) => {
  const value = given === null || typeof given === "string" ? given : JSON.stringify(given);
  return { topic, messages: [{ key, value, headers: signed(value, headers) }] };
};

const send = async ({ messages, abort }) => {
  const topicMessages = messages.map(record);
  if (kind !== "transactional") return producer.sendBatch({ topicMessages });
  const transaction = await producer.transaction();
  const sent = await transaction.sendBatch({ topicMessages });
  await (abort ? transaction.abort() : transaction.commit());
  return sent;
};

(async () => {
  await producer.connect();
  for await (const line of createInterface({ input: process.stdin })) {
    console.log(JSON.stringify({ sent: await send(JSON.parse(line)) }));
  }
  await producer.disconnect();
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
