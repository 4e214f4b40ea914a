// A service of NestJS that tells and asks: reads { do: "emit" | "send", topic, key, value, headers } from stdin, a JSON
// object a line, and writes what became of each: { emitted }, what the Observable of `send` gave as { answer }, or
// { error }. It waits for answers on the reply topics of `replies`.
const { createInterface } = require("node:readline");
require("reflect-metadata");
const { ClientKafka } = require("@nestjs/microservices");
const { lastValueFrom, timeout } = require("rxjs");

const { brokers, groupId, replies } = JSON.parse(process.argv[2]);

// As a service is written for it, with KAFKA_SERVICE provided by ClientsModule.
class EventsService {
  constructor(kafka) {
    this.kafka = kafka;
  }

  async onModuleInit() {
    replies.forEach((topic) => this.kafka.subscribeToResponseOf(topic));
    await this.kafka.connect();
  }

  emit(topic, message) {
    return lastValueFrom(this.kafka.emit(topic, message));
  }

  send(topic, message) {
    return lastValueFrom(this.kafka.send(topic, message).pipe(timeout(20_000)));
  }
}

const kafka = new ClientKafka({
  client: { clientId: "accounting-service", brokers: [brokers] },
  consumer: { groupId },
  // An answer may be there before the first look for where the topic ends.
  subscribe: { fromBeginning: true },
  ...(replies.length === 0 && { producerOnlyMode: true }),
});

// Bare, as `publishUserCreated` does, unless there is more to say than the value.
const message = ({ key, value, headers }) => (key || headers ? { key, value, headers } : value);
const tell = (what) => process.stdout.write(JSON.stringify(what) + "\n");

(async () => {
  const service = new EventsService(kafka);
  await service.onModuleInit();
  for await (const line of createInterface({ input: process.stdin })) {
    const asked = JSON.parse(line);
    try {
      const given = await service[asked.do](asked.topic, message(asked));
      tell(asked.do === "send" ? { answer: given } : { emitted: given });
    } catch (error) {
      tell({ error: `${error.message ?? error}` });
    }
  }
  await kafka.close();
  process.exit(0);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
