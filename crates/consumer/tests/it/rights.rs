//! Every statement is allowed to the role that runs it, and what it is not for is refused.

use std::path::Path;

use testkit::rights::refused;

use crate::scene::Scene;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn worker_and_operator_may_do_their_work_and_no_more() -> anyhow::Result<()> {
    let scene = Scene::set().await?;
    let sql = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sql");
    let app = scene.pool("app", 1).await?;
    assert!(testkit::check_statements(&app, &sql).await? >= 8);
    assert!(testkit::check_statements(&scene.operator, &sql.join("operator")).await? >= 8);
    refused(
        &app,
        &[
            "update inbox.message set source = ''",
            "delete from inbox.message",
            "truncate inbox.message_0",
            "delete from inbox.dead_letter",
            "insert into inbox.replay (id, consumer, actor, reason, selected) values (gen_random_uuid(), '', '', '', 1)",
            "select from inbox.audit",
            "update inbox.audit set reason = ''",
            "delete from inbox.fence",
        ],
    )
    .await?;
    refused(
        &scene.operator,
        &[
            "update inbox.dead_letter set payload = ''",
            "update inbox.dead_letter set error = ''",
            "delete from inbox.dead_letter",
            "insert into inbox.key_hold values ('', '', '', gen_random_uuid())",
            "update inbox.audit set reason = ''",
            "delete from inbox.audit",
            "select from inbox.message",
            "select from outbox.event",
            "select from effect",
            "select inbox.clear_expired()",
        ],
    )
    .await?;
    for sql in ["update inbox.audit set reason = ''", "delete from inbox.audit", "truncate inbox.audit"] {
        let error = sqlx::raw_sql(sql).execute(&scene.owner).await.expect_err(sql);
        assert!(error.to_string().contains("append-only"), "{sql}, even by its owner: {error}");
    }
    Ok(())
}
