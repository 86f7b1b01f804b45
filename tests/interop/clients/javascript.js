// The official client, told what to do by lines of JSON and telling what happens in lines of JSON.
// What may be told and what is said stands in tests/interop/driving.py.
"use strict";

const readline = require("node:readline");
const { HttpTransportType, HubConnectionBuilder, LogLevel } = require("@microsoft/signalr");

const say = (what, more) => console.log(JSON.stringify({ said: what, ...more }));
const worded = (error) => (error ? error.message : null);

let hub;

const orders = {
  async start({ url, token, events, skip_negotiation: skipNegotiation, reconnect_ms: delays, server_timeout_ms, ping_ms }) {
    const options = {};
    if (token) {
      options.accessTokenFactory = () => {
        say("asked for a token");
        return token;
      };
    }
    if (skipNegotiation) {
      Object.assign(options, { skipNegotiation, transport: HttpTransportType.WebSockets });
    }
    let builder = new HubConnectionBuilder().withUrl(url, options).configureLogging(LogLevel.None);
    if (delays) {
      builder = builder.withAutomaticReconnect(delays);
    }
    hub = builder.build();
    hub.serverTimeoutInMilliseconds = server_timeout_ms ?? hub.serverTimeoutInMilliseconds;
    hub.keepAliveIntervalInMilliseconds = ping_ms ?? hub.keepAliveIntervalInMilliseconds;
    for (const name of events) {
      hub.on(name, (...values) => say("event", { name, values }));
    }
    hub.onreconnecting((error) => say("reconnecting", { error: worded(error) }));
    hub.onreconnected((id) => say("reconnected", { id: id ?? null }));
    hub.onclose((error) => say("closed", { error: worded(error) }));
    try {
      await hub.start();
      say("started", { id: hub.connectionId });
    } catch (error) {
      say("failed to start", { error: worded(error) });
    }
  },

  async invoke({ call, method, values }) {
    try {
      say("completed", { call, result: await hub.invoke(method, ...values) });
    } catch (error) {
      say("failed", { call, error: worded(error) });
    }
  },

  async send({ method, values }) {
    await hub.send(method, ...values);
  },

  async stop() {
    await hub.stop();
    say("stopped");
  },
};

const lines = readline.createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const order = JSON.parse(line);
  orders[order.do](order);
});
lines.on("close", () => process.exit(0));
