//! Adapters and their undo.

use crate::sample::{adapter, job, open, run};
use domain::*;
use store::{Store, StoreError};

fn active(store: &Store) -> Vec<String> {
    store.active_adapters(&"story".into()).unwrap().into_iter().map(|one| one.id.0).collect()
}

#[test]
fn activating_one_retires_the_other_and_undo_brings_it_back() {
    let (_folder, store) = open();
    for id in ["ad_a", "ad_b", "ad_c"] {
        store.insert_adapter(&adapter(id, None)).unwrap();
    }
    assert!(active(&store).is_empty());
    assert_eq!(store.set_adapter_state(&"ad_a".into(), AdapterState::Active).unwrap().replaced, None);
    let switch = store.set_adapter_state(&"ad_b".into(), AdapterState::Active).unwrap();
    assert_eq!(switch.replaced.map(|one| (one.id.0, one.state)), Some(("ad_a".into(), AdapterState::Retired)));
    store.set_adapter_state(&"ad_c".into(), AdapterState::Active).unwrap();
    assert_eq!(active(&store), ["ad_c"]);
    // Without b, an undo of c leads to what b had replaced.
    store.delete_adapter(&"ad_b".into()).unwrap();
    let undone = store.undo_adapter(&"ad_c".into()).unwrap();
    assert_eq!((undone.adapter.state, undone.restored.map(|one| one.id.0)), (AdapterState::Retired, Some("ad_a".into())));
    assert_eq!(active(&store), ["ad_a"]);
    assert_eq!(store.undo_adapter(&"ad_a".into()).unwrap().restored, None, "before the first there was the plain base");
    assert!(active(&store).is_empty());
}

#[test]
fn undoing_one_that_is_not_active_leaves_the_active_one_alone() {
    let (_folder, store) = open();
    store.insert_adapter(&Adapter { state: AdapterState::Active, ..adapter("ad_a", None) }).unwrap();
    store.insert_adapter(&adapter("ad_b", None)).unwrap();
    assert_eq!(store.undo_adapter(&"ad_b".into()).unwrap().restored, None);
    assert_eq!(active(&store), ["ad_a"]);
}

#[test]
fn another_base_has_its_own_active_adapter() {
    let (_folder, store) = open();
    store.insert_adapter(&Adapter { state: AdapterState::Active, ..adapter("ad_a", None) }).unwrap();
    store.insert_adapter(&Adapter { state: AdapterState::Active, base: "base_x".into(), ..adapter("ad_b", None) }).unwrap();
    assert_eq!(active(&store), ["ad_a"]);
    assert_eq!(store.active_adapters(&"base_x".into()).unwrap()[0].id, "ad_b".into());
}

#[test]
fn an_adapter_reads_back_and_its_run_forgets_it_when_it_is_deleted() {
    let (_folder, store) = open();
    store.enqueue(&job("job_1", Priority::Normal), &run("run_1")).unwrap();
    let wanted = adapter("ad_a", Some("run_1"));
    store.insert_adapter(&wanted).unwrap();
    assert_eq!(store.adapters().unwrap(), std::slice::from_ref(&wanted));
    let renamed = Adapter { name: "Warm endings".into(), strength: 0.5, verdict: None, ..wanted };
    store.update_adapter(&renamed).unwrap();
    assert_eq!(store.adapter(&"ad_a".into()).unwrap(), renamed);
    let run = store.run(&"run_1".into()).unwrap();
    store.update_run(&Run { adapter_id: Some("ad_a".into()), ..run }).unwrap();
    assert_eq!(store.delete_adapter(&"ad_a".into()).unwrap(), renamed);
    assert_eq!(store.run(&"run_1".into()).unwrap().adapter_id, None);
    assert!(matches!(store.set_adapter_state(&"ad_a".into(), AdapterState::Active), Err(StoreError::NotFound { .. })));
}
