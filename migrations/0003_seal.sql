-- A run that has finished is sealed; roll-ups are made by the writer; lists of runs have an index.

-- Roll-ups are summed by the program that appends, a whole batch at once, in the same order as before.
drop function roll_up(uuid, bigint, bigint);
drop function add_arrays(float8[], float8[]);
drop function add_arrays(bigint[], bigint[]);

create index run_started on run (started_at desc);

-- The event that ends a run: number 15, RunFinished. Nothing may follow it, so the stream is sealed in
-- the transaction that appends it: from then on its partition can be archived and detached.
create or replace function append(
    p_run uuid, p_epoch bigint, p_expected bigint, p_prev bytea,
    p_attempt bigint[], p_step bigint[], p_kind integer[], p_schema_version integer[],
    p_recorded_at bigint[], p_payload bytea[], p_hash bytea[]
) returns bigint language plpgsql as $$
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
    select * into h from run_head where run_id = p_run for update;
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
    insert into event (run_id, seq, attempt, step, kind, schema_version, recorded_at, writer_epoch,
                       payload, prev_hash, hash)
    select p_run, p_expected + u.i - 1, u.attempt, u.step, u.kind, u.schema_version, u.recorded_at, p_epoch,
           u.payload, u.prev_hash, u.hash
    from unnest(p_attempt, p_step, p_kind, p_schema_version, p_recorded_at, p_payload,
                array_prepend(p_prev, p_hash[1:n - 1]), p_hash)
         with ordinality as u(attempt, step, kind, schema_version, recorded_at, payload, prev_hash, hash, i);
    update run_head set next_seq = p_expected + n, chain = p_hash[n], sealed = finish is not null
        where run_id = p_run;
    return p_expected + n;
end $$;

-- Runs that finished before streams were sealed.
update run_head h set sealed = true
    where exists (select from event e where e.run_id = h.run_id and e.seq = h.next_seq - 1 and e.kind = 15);
