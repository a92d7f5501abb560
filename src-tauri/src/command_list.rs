// The window's commands, listed once: the invoke handler and the permissions (build.rs) derive from it.
// Use cases are not listed here; they all go through `call`, whose table is `app::calls`.
macro_rules! for_each_command {
    ($then:ident) => {
        $then![call, write_stream, subscribe, save_text, save_bytes, open_folder_dialog, page_ready]
    };
}
