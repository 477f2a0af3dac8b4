-- A wish refers to its run's head, and so asks for a key-share lock of it. An append changes no key: with
-- this lock in place of the stronger one it keeps other writers out and no wish waiting.
do $$ begin
    execute replace(pg_get_functiondef('append'::regproc), 'for update', 'for no key update');
end $$;
