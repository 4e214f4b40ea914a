// A mail server. Says on stdout, a JSON object a line, what comes; hears on stdin, likewise, how to answer from then
// on: { refuse: 451 } receivers, { refuseMail: 451 } mails that it has taken, both { only } of one address or of
// all, { hold: true } the answer to a mail that it has taken, { hangUp } over a receiver, { password }.
const { createInterface } = require("node:readline");
const { simpleParser } = require("mailparser");
const { SMTPServer } = require("smtp-server");

const { port, user, key, cert, tls, ...rest } = JSON.parse(process.argv[2]);
let how = rest;
const tell = (what) => process.stdout.write(JSON.stringify(what) + "\n");

const server = new SMTPServer({
  authOptional: !user,
  disableReverseLookup: true,
  // Without a certificate it has one that is known to all.
  ...(cert && { key, cert }),
  secure: tls === true,
  onAuth(given, session, done) {
    const known = given.username === user && given.password === how.password;
    tell({ login: known, encrypted: session.secure });
    done(known ? null : Object.assign(new Error(`no such user ${given.username}`), { responseCode: 535 }), { user });
  },
  onRcptTo({ address }, _session, done) {
    if (how.only && how.only !== address) return done();
    if (how.hangUp) {
      tell({ hungUp: true });
      return server.connections.forEach((connection) => connection._socket.destroy());
    }
    if (!how.refuse) return done();
    tell({ refused: how.refuse });
    done(Object.assign(new Error(`5.1.1 <${address}> is not taken`), { responseCode: how.refuse }));
  },
  onData(stream, session, done) {
    simpleParser(stream).then((mail) => {
      const headers = Object.fromEntries(mail.headerLines.map(({ key, line }) => [key, line]));
      const { messageId, subject, text } = mail;
      const to = session.envelope.rcptTo.map(({ address }) => address);
      tell({ mail: { messageId, subject, text, to, from: mail.from.text, headers, encrypted: session.secure } });
      if (how.refuseMail && (!how.only || to.includes(how.only))) {
        tell({ refused: how.refuseMail });
        return done(Object.assign(new Error("4.7.1 not now"), { responseCode: how.refuseMail }));
      }
      if (!how.hold) done();
    }, done);
  },
});
server.on("error", (error) => tell({ error: error.message }));
server.listen(port, "127.0.0.1", () => tell({ port: server.server.address().port }));

createInterface({ input: process.stdin }).on("line", (line) => {
  how = { ...how, ...JSON.parse(line) };
  tell({ how });
});
