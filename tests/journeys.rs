//! The whole system as its users and operators meet it: the program `annuaire` as a process,
//! HTTP, a real PostgreSQL. One file a journey.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is its purpose")]

#[path = "journeys/administrators.rs"]
mod administrators;
#[path = "journeys/bad_input.rs"]
mod bad_input;
#[path = "journeys/canary.rs"]
mod canary;
#[path = "journeys/command_line.rs"]
mod command_line;
#[path = "journeys/customers.rs"]
mod customers;
#[path = "journeys/dead_letters.rs"]
mod dead_letters;
#[path = "journeys/disk_full.rs"]
mod disk_full;
#[path = "journeys/dlq.rs"]
mod dlq;
#[path = "journeys/doctor.rs"]
mod doctor;
#[path = "journeys/faults_kafka.rs"]
mod faults_kafka;
#[path = "journeys/faults_redis.rs"]
mod faults_redis;
#[path = "journeys/first_login.rs"]
mod first_login;
#[path = "journeys/flushall.rs"]
mod flushall;
#[path = "journeys/hot_account.rs"]
mod hot_account;
#[path = "journeys/import.rs"]
mod import;
#[path = "journeys/inbound.rs"]
mod inbound;
#[path = "journeys/inbound_faults.rs"]
mod inbound_faults;
#[path = "journeys/inbound_points.rs"]
mod inbound_points;
#[path = "journeys/inbound_poison.rs"]
mod inbound_poison;
#[path = "journeys/jsonwebtoken.rs"]
mod jsonwebtoken;
#[path = "journeys/kafka.rs"]
mod kafka;
#[path = "journeys/kill.rs"]
mod kill;
#[path = "journeys/kill_points.rs"]
mod kill_points;
#[path = "journeys/load.rs"]
mod load;
#[path = "journeys/log.rs"]
mod log;
#[path = "journeys/login_load.rs"]
mod login_load;
#[path = "journeys/login_points.rs"]
mod login_points;
#[path = "journeys/logins.rs"]
mod logins;
#[path = "journeys/mail_points.rs"]
mod mail_points;
#[path = "journeys/mails.rs"]
mod mails;
#[path = "journeys/metrics.rs"]
mod metrics;
#[path = "journeys/outage.rs"]
mod outage;
#[path = "journeys/private_kafka.rs"]
mod private_kafka;
#[path = "journeys/private_redis.rs"]
mod private_redis;
#[path = "journeys/profile_cache.rs"]
mod profile_cache;
#[path = "journeys/projections.rs"]
mod projections;
#[path = "journeys/proxy.rs"]
mod proxy;
#[path = "journeys/races.rs"]
mod races;
#[path = "journeys/rebuild.rs"]
mod rebuild;
#[path = "journeys/rebuilds.rs"]
mod rebuilds;
#[path = "journeys/refresh_races.rs"]
mod refresh_races;
#[path = "journeys/renewals.rs"]
mod renewals;
#[path = "journeys/rolling_deploy.rs"]
mod rolling_deploy;
#[path = "journeys/search.rs"]
mod search;
#[path = "journeys/second_factor.rs"]
mod second_factor;
#[path = "journeys/server.rs"]
mod server;
#[path = "journeys/sessions.rs"]
mod sessions;
#[path = "journeys/set_back.rs"]
mod set_back;
#[path = "journeys/shut_out.rs"]
mod shut_out;
#[path = "journeys/sink_points.rs"]
mod sink_points;
#[path = "journeys/sinks.rs"]
mod sinks;
#[path = "journeys/sinks_kill.rs"]
mod sinks_kill;
#[path = "journeys/sinks_outage.rs"]
mod sinks_outage;
#[path = "journeys/sinks_two.rs"]
mod sinks_two;
#[path = "journeys/slow_clients.rs"]
mod slow_clients;
#[path = "journeys/slow_postgres.rs"]
mod slow_postgres;
#[path = "journeys/three_processes.rs"]
mod three_processes;
#[path = "journeys/tools.rs"]
mod tools;
#[path = "journeys/traces.rs"]
mod traces;
#[path = "journeys/users.rs"]
mod users;
#[path = "journeys/whole_life.rs"]
mod whole_life;
