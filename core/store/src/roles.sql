-- Who may do what with the log. Everything belongs to the role that ran `hm db migrate`; nobody trains
-- or looks as that role. Add the people and machines: grant heurimentor_worker to somebody.
-- Run it as the owner, again after every `hm db migrate`.

-- Trains, steers and serves the page: appends events through functions, and cannot change, delete,
-- truncate, detach or drop them, nor move a stream's head.
do $$ begin create role heurimentor_worker nologin; exception when duplicate_object then null; end $$;
grant execute on function start_run(uuid, text) to heurimentor_worker;
grant execute on function append(uuid, bigint, bigint, bytea, bigint[], bigint[], integer[], integer[],
    bigint[], bytea[], bytea[]) to heurimentor_worker;
grant update (writer_epoch, holder, holder_began) on run_head to heurimentor_worker;
grant insert on plugin, plugin_state to heurimentor_worker;
grant insert, update on command to heurimentor_worker;
grant insert, update, delete on worker to heurimentor_worker;
-- Projections can be made again from the log.
grant insert, update, delete on run, step_metric, step_rollup, decision, finding, checkpoint, rollback,
    binding, validation, weight_state to heurimentor_worker;

-- Audits and looks. Needs no other right.
do $$ begin create role heurimentor_reader nologin; exception when duplicate_object then null; end $$;
grant select on event, run_head, worker, command, plugin, plugin_state, run, step_metric,
    step_metric_domain, step_rollup, decision, finding, checkpoint, rollback, binding, validation,
    weight_state, _sqlx_migrations
    to heurimentor_reader, heurimentor_worker;
