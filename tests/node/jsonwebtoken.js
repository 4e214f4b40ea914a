// Does with a token what a service does that shares our secret: verifies one of ours, makes one of its own.
const { readFileSync } = require("node:fs");
const jwt = require("jsonwebtoken");

const { secret, token, sign } = JSON.parse(readFileSync(0, "utf8"));
const { header, payload } = jwt.verify(token, secret, { complete: true });
console.log(JSON.stringify({ header, payload, token: jwt.sign(sign, secret, { expiresIn: "15m" }) }));
