
STDIN.each_line(chomp: true) do |line|
  name, argument, key = line.split("\t")
  key = [key].pack("H*")
  text = [argument].pack("H*").force_encoding("UTF-8")
  answer =
    begin
      case name
      when "decode"
        time, machine, sequence = decode(argument.to_i)
        "#{time.strftime("%Y-%m-%dT%H:%M:%S.%LZ")} #{machine} #{sequence}"
      when "to_text" then to_text(argument.to_i)
      when "from_text" then from_text(text)
      when "to_opaque" then to_opaque(argument.to_i, key)
      when "from_opaque" then from_opaque(text, key)
      end
    rescue ArgumentError
      "refused"
    end
  puts answer
end
