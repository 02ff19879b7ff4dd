//! A worker in Zig: counts, once every so many seconds as its argument says.
const std = @import("std");

extern fn sleep(c_uint) c_uint;

pub fn main(init: std.process.Init) !void {
    var arguments = try init.minimal.args.iterateAllocator(init.gpa);
    _ = arguments.next();
    const seconds = std.fmt.parseInt(c_uint, arguments.next() orelse "5", 10) catch 5;
    var count: u64 = 1;
    while (true) : (count += 1) {
        std.debug.print("count {d}\n", .{count});
        _ = sleep(@max(seconds, 1));
    }
}
