//! A web process in Zig: a greeting, and an echo of what is posted.
const std = @import("std");
const gilliam = @import("gilliam");

comptime {
    gilliam.serve(handle);
}

fn handle(request: *gilliam.Request, response: *gilliam.Response) !void {
    if (std.mem.eql(u8, request.method(), "POST")) return echo(request, response);
    try response.setHeader("content-type", "text/plain; charset=utf-8");
    if (std.mem.eql(u8, request.path(), "/fail")) return error.AsAsked;
    if (!std.mem.eql(u8, request.path(), "/")) {
        response.status(404);
        return response.print("there is nothing at {s}\n", .{request.path()});
    }
    try response.print("{s} from Zig\n", .{gilliam.env("GREETING") orelse "Hello"});
}

fn echo(request: *gilliam.Request, response: *gilliam.Response) !void {
    var buffer: [4096]u8 = undefined;
    while (true) {
        const part = try request.read(&buffer);
        if (part.len == 0) return;
        try response.write(part);
    }
}
