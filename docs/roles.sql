-- Roles for one store on PostgreSQL: who owns its tables, who writes, who only reads. Run it once as a superuser in the
-- store's database, before the first migration; then give each role a password (\password persist_app in psql).
--
--   persist_owner   persist migrate up|down; makes and changes tables
--   persist_app     the orchestrator; no right to change a table. It starts with .migrate(false), or finds nothing to do
--                   that it needs
--   persist_read    reports, dashboards; no write
--
-- URLs then end in ?persist_schema=persist.

CREATE ROLE persist_owner LOGIN;
CREATE ROLE persist_app LOGIN;
CREATE ROLE persist_read LOGIN;

CREATE SCHEMA persist AUTHORIZATION persist_owner;
GRANT USAGE ON SCHEMA persist TO persist_app, persist_read;

ALTER DEFAULT PRIVILEGES FOR ROLE persist_owner IN SCHEMA persist
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO persist_app;
ALTER DEFAULT PRIVILEGES FOR ROLE persist_owner IN SCHEMA persist
    GRANT USAGE ON SEQUENCES TO persist_app;
ALTER DEFAULT PRIVILEGES FOR ROLE persist_owner IN SCHEMA persist
    GRANT SELECT ON TABLES TO persist_read;
