-- Starting a run waits for no reader; events stay where they are, attached or not; a role that may only
-- append is enough to train; rows are checked and stored with less work.

-- Read by nobody: a stream has one writer, whose commits are in the order of seq.
alter table event drop column xid;

alter table event add constraint event_attempt_fits check (attempt < 4294967296);

-- A payload of some kilobytes is not worth the time to compress it; one of many goes beside the table.
alter table event alter payload set storage external;

alter table plugin add constraint plugin_is_its_digest check (digest = sha256(wasm));

create or replace function event_immutable() returns trigger language plpgsql as $$
begin
    raise exception 'the log is append-only: % of % refused', lower(tg_op), tg_table_name
        using errcode = '42501';
end $$;
create trigger plugin_no_change before update on plugin
    for each statement execute function event_immutable();

-- Every projected row is made from an event in the transaction that appends it, and audits compare the
-- two: a reference looked up row by row would cost as much as the row.
alter table step_metric drop constraint step_metric_run_id_fkey;
alter table step_rollup drop constraint step_rollup_run_id_fkey;
alter table decision drop constraint decision_run_id_fkey;
alter table finding drop constraint finding_run_id_fkey;
alter table checkpoint drop constraint checkpoint_run_id_fkey;
alter table binding drop constraint binding_run_id_fkey;
alter table validation drop constraint validation_run_id_fkey;
alter table weight_state drop constraint weight_state_run_id_fkey;

-- Its row is written with every batch: small, and in the page where it was.
alter table run set (fillfactor = 50);
alter table run alter spec set storage external;

-- Makes a stream. Not idempotent on purpose: a run id is used once. The partition is made by itself and
-- attached when it is whole, which waits for nobody that reads or writes other runs; `partition of` would
-- lock them all out. The lock that is left (other starts, migrations) is waited for by trying again.
create or replace function start_run(p_run uuid, p_name text) returns void
    language plpgsql security definer set lock_timeout = '2s' as $$
declare
    part text := event_partition(p_run);
begin
    insert into run_head (run_id, name) values (p_run, p_name);
    -- Rows lie in the table itself as long as they fit a page.
    execute format('create table %I (like event including defaults including constraints
        including indexes including storage) with (toast_tuple_target = 8160)', part);
    execute format('alter table %I add constraint event_of_run check (run_id = %L)', part, p_run);
    -- Its own, so that it stays when the partition is detached.
    execute format('create trigger event_stays before update or delete or truncate on %I
        for each statement execute function event_immutable()', part);
    execute format('alter table event attach partition %I for values in (%L)', part, p_run);
end $$;

-- As before, but straight into the run's partition, whatever other partitions there are.
create or replace function append(
    p_run uuid, p_epoch bigint, p_expected bigint, p_prev bytea,
    p_attempt bigint[], p_step bigint[], p_kind integer[], p_schema_version integer[],
    p_recorded_at bigint[], p_payload bytea[], p_hash bytea[]
) returns bigint language plpgsql security definer as $$
declare
    n integer := cardinality(p_payload);
    finish integer := array_position(p_kind, 15);
    h run_head;
begin
    -- unnest() pads short arrays with null, so unequal lengths must be refused.
    if n is null or n = 0
       or array[cardinality(p_attempt), cardinality(p_step), cardinality(p_kind),
                cardinality(p_schema_version), cardinality(p_recorded_at), cardinality(p_hash)]
          is distinct from array_fill(n, array[6]) then
        raise exception 'batch of unequal or no length' using errcode = 'ES004';
    end if;
    select * into h from run_head where run_id = p_run for no key update;
    if not found then
        raise exception 'no run %', p_run using errcode = 'P0002';
    end if;
    if h.sealed or finish < n then
        raise exception 'run % is finished: nothing may follow the event that ends it', p_run
            using errcode = 'ES001';
    end if;
    if h.writer_epoch <> p_epoch then
        raise exception 'writer epoch % is over: % holds the run with epoch %', p_epoch, h.holder, h.writer_epoch
            using errcode = 'ES002';
    end if;
    if h.next_seq <> p_expected or h.chain <> p_prev then
        raise exception 'expected seq %, the log is at %', p_expected, h.next_seq using errcode = 'ES003';
    end if;
    -- Every event names its predecessor's hash: the hashes again, one place later.
    execute format('insert into %I (run_id, seq, attempt, step, kind, schema_version, recorded_at,
            writer_epoch, payload, prev_hash, hash)
        select $1, $2 + u.i - 1, u.attempt, u.step, u.kind, u.schema_version, u.recorded_at, $3,
            u.payload, u.prev_hash, u.hash
        from unnest($4, $5, $6, $7, $8, $9, $10, $11)
            with ordinality as u(attempt, step, kind, schema_version, recorded_at, payload, prev_hash, hash, i)',
        event_partition(p_run))
    using p_run, p_expected, p_epoch, p_attempt, p_step, p_kind, p_schema_version, p_recorded_at, p_payload,
        array_prepend(p_prev, p_hash[1:n - 1]), p_hash;
    update run_head set next_seq = p_expected + n, chain = p_hash[n], sealed = finish is not null
        where run_id = p_run;
    return p_expected + n;
end $$;

-- Both act with their owner's rights, so they find its tables and nobody's temporary ones.
do $$
begin
    execute format('alter function start_run(uuid, text) set search_path = %I, pg_temp', current_schema());
    execute format('alter function append(uuid, bigint, bigint, bytea, bigint[], bigint[], integer[], integer[],
        bigint[], bytea[], bytea[]) set search_path = %I, pg_temp', current_schema());
end $$;
revoke execute on function start_run(uuid, text) from public;
revoke execute on function append(uuid, bigint, bigint, bytea, bigint[], bigint[], integer[], integer[],
    bigint[], bytea[], bytea[]) from public;

-- The system stream's partition is older than that.
create trigger event_stays before update or delete or truncate on event_00000000000000000000000000000000
    for each statement execute function event_immutable();
