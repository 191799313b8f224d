# The same work in jq. With $apply the whole registry is written, else what differs.
def wanted: {admin: "opus", wife: "opus", family: "sonnet", favorite: "sonnet", bots: "haiku", unknown: "haiku"}[.tier // ""] // "sonnet";

# Not `map_values`, which in jq 1.6 takes time in the square of the size.
if $apply then with_entries(.value.model = (.value | wanted))
else to_entries[] | select(.value.model != (.value | wanted)) | "\(.key) \(.value.session_name) \(.value.model) -> \(.value | wanted)"
end
