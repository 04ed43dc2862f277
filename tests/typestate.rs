//! Illegal orders of the lifecycle do not compile.

#[test]
fn illegal_orders_do_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/illegal/*.rs");
}
