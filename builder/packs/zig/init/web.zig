//! Answers / with a greeting: gilliam config GREETING=hello changes it.
const std = @import("std");
const gilliam = @import("gilliam");

comptime {
    gilliam.serve(handle);
}

fn handle(request: *gilliam.Request, response: *gilliam.Response) !void {
    try response.setHeader("content-type", "text/plain; charset=utf-8");
    if (!std.mem.eql(u8, request.path(), "/")) {
        response.status(404);
        return response.print("there is nothing at {s}\n", .{request.path()});
    }
    try response.print("{s} from Zig\n", .{gilliam.env("GREETING") orelse "Hello"});
}
