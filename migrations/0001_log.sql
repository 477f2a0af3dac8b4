-- The event log: one gapless, hash-chained stream per run, with one writer at a time.

-- Where a stream stands. Every append locks this row first and checks after.
create table run_head (
    run_id       uuid    primary key,
    name         text    not null check (name <> ''),
    next_seq     bigint  not null default 0 check (next_seq >= 0),
    -- Hash of the last event; zeros before the first.
    chain        bytea   not null default decode(repeat('00', 32), 'hex') check (octet_length(chain) = 32),
    -- Counts up each time a worker takes the stream: an older one is refused from then on.
    writer_epoch bigint  not null default 0 check (writer_epoch >= 0),
    -- For people: host and process that took it last. The advisory lock decides, not this text.
    holder       text    not null default '',
    -- A finished stream takes no more events.
    sealed       boolean not null default false
) with (fillfactor = 50); -- room for updates in the same page: it is written at every append

create index run_head_name on run_head (name);

-- LIST on the run, one partition each, so that a finished run can be archived and detached.
create table event (
    run_id         uuid     not null,
    seq            bigint   not null check (seq >= 0),
    attempt        bigint   not null check (attempt >= 0),
    step           bigint   check (step >= 0),
    kind           integer  not null check (kind between 0 and 65535),
    schema_version integer  not null check (schema_version between 0 and 65535),
    -- Microseconds since the Unix epoch: the hash covers this very number.
    recorded_at    bigint   not null,
    writer_epoch   bigint   not null,
    -- rkyv bytes of the payload type of this kind and version.
    payload        bytea    not null,
    prev_hash      bytea    not null check (octet_length(prev_hash) = 32),
    hash           bytea    not null check (octet_length(hash) = 32),
    -- Derived, not hashed: only for tails over several runs.
    xid            xid8     not null default pg_current_xact_id(),
    primary key (run_id, seq)
) partition by list (run_id);

create function event_immutable() returns trigger language plpgsql as $$
begin
    raise exception 'the event log is append-only: % refused', tg_op using errcode = '42501';
end $$;

-- Row triggers are inherited by partitions, TRUNCATE triggers are not: start_run() puts one on each.
create trigger event_no_change before update or delete on event
    for each row execute function event_immutable();
create trigger event_no_truncate before truncate on event
    for each statement execute function event_immutable();

-- Partition names are derived from the run, so nobody has to look them up.
create function event_partition(p_run uuid) returns text language sql immutable as $$
    select 'event_' || replace(p_run::text, '-', '')
$$;

-- Makes a stream. Not idempotent on purpose: a run id is used once.
create function start_run(p_run uuid, p_name text) returns void language plpgsql as $$
begin
    insert into run_head (run_id, name) values (p_run, p_name);
    execute format('create table %I partition of event for values in (%L)', event_partition(p_run), p_run);
    execute format('create trigger event_no_truncate before truncate on %I
                    for each statement execute function event_immutable()', event_partition(p_run));
end $$;

-- Appends a batch. Codes: P0002 no such run, ES001 sealed, ES002 fenced, ES003 conflict, ES004 bad batch.
create function append(
    p_run uuid, p_epoch bigint, p_expected bigint, p_prev bytea,
    p_attempt bigint[], p_step bigint[], p_kind integer[], p_schema_version integer[],
    p_recorded_at bigint[], p_payload bytea[], p_hash bytea[]
) returns bigint language plpgsql as $$
declare
    n integer := cardinality(p_payload);
    h run_head;
begin
    -- unnest() pads short arrays with null, so unequal lengths must be refused.
    if n is null or n = 0
       or array[cardinality(p_attempt), cardinality(p_step), cardinality(p_kind),
                cardinality(p_schema_version), cardinality(p_recorded_at), cardinality(p_hash)]
          is distinct from array_fill(n, array[6]) then
        raise exception 'batch of unequal or no length' using errcode = 'ES004';
    end if;
    select * into h from run_head where run_id = p_run for update;
    if not found then
        raise exception 'no run %', p_run using errcode = 'P0002';
    end if;
    if h.sealed then
        raise exception 'run % is sealed', p_run using errcode = 'ES001';
    end if;
    if h.writer_epoch <> p_epoch then
        raise exception 'writer epoch % is over: % holds the run with epoch %', p_epoch, h.holder, h.writer_epoch
            using errcode = 'ES002';
    end if;
    if h.next_seq <> p_expected or h.chain <> p_prev then
        raise exception 'expected seq %, the log is at %', p_expected, h.next_seq using errcode = 'ES003';
    end if;
    insert into event (run_id, seq, attempt, step, kind, schema_version, recorded_at, writer_epoch,
                       payload, prev_hash, hash)
    select p_run, p_expected + u.i - 1, u.attempt, u.step, u.kind, u.schema_version, u.recorded_at, p_epoch,
           u.payload, case when u.i = 1 then p_prev else p_hash[u.i - 1] end, u.hash
    from unnest(p_attempt, p_step, p_kind, p_schema_version, p_recorded_at, p_payload, p_hash)
         with ordinality as u(attempt, step, kind, schema_version, recorded_at, payload, hash, i);
    update run_head set next_seq = p_expected + n, chain = p_hash[n] where run_id = p_run;
    return p_expected + n;
end $$;

-- The system stream (plugins, users, settings) is there from the beginning.
select start_run('00000000-0000-0000-0000-000000000000', 'system');

-- Installed components. The digest of the bytes is their only identity.
create table plugin (
    digest       bytea  primary key check (octet_length(digest) = 32),
    wasm         bytea  not null,
    world        text   not null check (world in ('policy', 'detector')),
    interface    text   not null,
    name         text   not null,
    version      text   not null,
    description  jsonb  not null,
    -- The conformance check's report.
    checks       jsonb  not null,
    -- Microseconds since the Unix epoch.
    installed_at bigint not null
);
-- Components are compressed already as far as it matters; skip the attempt.
alter table plugin alter column wasm set storage external;
create index plugin_name on plugin (name, version, installed_at);

-- Plugin states by content: kept, so that an audit can start from any of them.
create table plugin_state (
    digest bytea primary key check (digest = sha256(state)),
    state  bytea not null check (octet_length(state) <= 262144)
);

-- Wishes from outside, drained at step boundaries and answered by an event.
create table command (
    id           bigint generated always as identity primary key,
    run_id       uuid   not null references run_head,
    kind         text   not null check (kind <> ''),
    body         jsonb  not null,
    issued_by    text   not null,
    issued_at    bigint not null,
    -- Seq of the answer; null while it waits.
    answered_seq bigint
);
create index command_waiting on command (run_id, id) where answered_seq is null;
